"""What the pixels of an image are, and the full check that it has them.

`open_rgb` defines the pixels that hashes, sizes and training see: the first frame; upright by its EXIF orientation;
CMYK, YCCK, palettes, grey and 1 bit as RGB; 16 bit scaled to 8, not clipped; transparency dropped, not blended, as
PIL's `convert("RGB")` does and every CLIP was trained.
"""

import io
import struct
import zlib
from functools import lru_cache
from typing import NamedTuple

import imagehash
import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "MPO")  # not those that run programs
FAULTS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, struct.error,
          zlib.error, RuntimeError, MemoryError, Image.DecompressionBombError)  # what decoders raise  # fmt: skip
MAX_BYTES = 2**28  # of an encoded image
MAX_PIXELS = 89_478_485  # where PIL begins to warn of bombs: 268 MB as RGB, for each thread that decodes
MIN_SIDE = 4  # pixels of the shorter side; traffic-sign crops of 8 are real, 1 x 1 trackers are not pictures
MAX_ASPECT = 20  # longer by shorter side
ORIENTATION = 0x0112  # EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip


class Header(NamedTuple):
    """What is known of an image that decodes to its last row; width and height are those of the upright image."""

    width: int
    height: int
    format: str
    phash: int  # 64 bits of imagehash.phash over the pixels of `open_rgb`, first bit highest


class Fault(NamedTuple):
    """Why an image is refused; a code of data_catalog.quarantine, and the header if the pixels are whole."""

    code: str
    reason: str
    header: Header | None = None


class Refused(ValueError):
    """An image whose pixels cannot be given; `code` says why as the quarantine does."""

    def __init__(self, code: str, reason: str):
        super().__init__(reason)
        self.code = code


def examine(data: bytes) -> Header | Fault:
    """The header of an image, decoded to its last row, or why it is refused."""
    if fault := _fault_of_bytes(data):
        return fault
    try:
        with _opened(data) as image:
            format, rgb = image.format or "unknown", _rgb(image)
    except FAULTS as error:
        return _fault(error)
    header = Header(*rgb.size, format, perceptual_hash(rgb))
    if min(rgb.size) < MIN_SIDE or max(rgb.size) > MAX_ASPECT * min(rgb.size):
        limits = f"expected sides of {MIN_SIDE} or more, none {MAX_ASPECT} times the other"
        return Fault("absurd_size", f"{rgb.width} x {rgb.height} pixels; {limits}", header)
    return header


def open_rgb(data: bytes) -> Image.Image:
    """The RGB pixels of an image; raises ValueError that says why there are none."""
    try:
        with _opened(data) as image:
            return _rgb(image)
    except FAULTS as error:
        raise ValueError(f"not usable as an image: {_fault(error).reason}") from error


def perceptual_hash(rgb: Image.Image) -> int:
    """64 bits that stay alike when an image is scaled or stored again: imagehash.phash, first bit highest."""
    return int.from_bytes(np.packbits(imagehash.phash(rgb).hash).tobytes())


def _fault_of_bytes(data: bytes) -> Fault | None:
    if not data:
        return Fault("empty", "0 bytes")
    if len(data) > MAX_BYTES:
        return Fault("too_large", f"{len(data)} bytes, expected at most {MAX_BYTES}")
    return None


def _opened(data: bytes) -> Image.Image:
    """The image with its header read; raises Refused before an absurd number of pixels is unpacked."""
    image = Image.open(io.BytesIO(data), formats=_formats())
    if image.width * image.height > MAX_PIXELS:
        raise Refused("too_many_pixels", f"{image.width} x {image.height} pixels, expected at most {MAX_PIXELS} in all")
    return image


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _rgb(image: Image.Image) -> Image.Image:
    image.load()  # `verify` accepts a JPEG that was cut short
    orientation = _orientation(image)
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, PIL warns of lists of transparencies
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb


def _orientation(image: Image.Image) -> int:
    """1 where there is none or the EXIF data is damaged: that says nothing against the pixels."""
    try:
        return image.getexif().get(ORIENTATION, 1)
    except FAULTS:
        return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits by its upper byte, as PIL reads RGB of 16 bits; raises Refused for any other range."""
    values = np.asarray(image)
    is_wide = image.mode == "I" and image.format not in ("PPM", "PNG")  # 32 bits: nothing says what white is
    if is_wide or values.dtype.kind == "f" or values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
        raise Refused(
            "unsupported_pixels", f"pixels of mode {image.mode} outside 0..65535 or with fractions have no one meaning"
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _fault(error: Exception) -> Fault:
    """One line without memory addresses, so that the same damage gives the same table."""
    text = str(error)
    if isinstance(error, Refused):
        return Fault(error.code, text)
    if isinstance(error, UnidentifiedImageError):
        return Fault("not_an_image", f"does not begin as an image of {', '.join(FORMATS)}")
    if isinstance(error, Image.DecompressionBombError):
        return Fault("too_many_pixels", text[:200])
    if "MAX_TEXT" in text or "text memory" in text:
        return Fault("oversized_text", text[:200])
    code = "truncated" if isinstance(error, EOFError) or "truncated" in text.lower() else "damaged"
    return Fault(code, f"does not decode: {type(error).__name__}: {text}"[:200])
