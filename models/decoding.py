"""From encoded images to square uint8 crops, in batches that lie channels last.

What the pixels of an image are is defined by `data_catalog.sources.images.open_rgb`. Most images are plain JPEGs, which
libjpeg-turbo decodes to the same bits without PIL around it; a look at their markers tells which. Crops are resized by
torch's antialiased bicubic filter, which follows PIL's to within 2 of 255 levels: that of Pillow before version 13,
which resizes tall images in another order of passes than all that existing weights were trained and scored with.
"""

import re
import struct

import numpy as np
import simplejpeg
import torch
from torch import Tensor

from data_catalog.sources.images import MAX_PIXELS, ORIENTATION, open_rgb

REVISION = 2  # raise when the same bytes would give other pixels: weights and scores that are kept depend on it
_START_OF_IMAGE, _START_OF_SCAN, _EXIF_OR_XMP, _ADOBE = b"\xff\xd8\xff", 0xFFDA, 0xFFE1, 0xFFEE
_FRAMES = (0xFFC0, 0xFFC1, 0xFFC2)  # Huffman coded: baseline, extended, progressive
_HARMLESS = {0xFFC4, 0xFFDB, 0xFFDD, 0xFFFE, *range(0xFFE0, 0xFFF0)}  # tables, restarts, comments, applications
_SEGMENT = struct.Struct(">HH")  # marker, length with the two bytes of the length
_FRAME = struct.Struct(">BHHB")  # bits per component, height, width, components
_EXIF = b"Exif\0\0"
_TURNED_BY_XMP = re.compile(rb'tiff:Orientation(?:="|>)[^1]')  # where PIL looks if EXIF is silent


class DamagedImage(ValueError):
    """Bytes that do not decode to an image; the message says why."""


def decode(blob: bytes) -> np.ndarray:
    """The pixels of an encoded image as uint8 [height, width, 3]; raises DamagedImage."""
    if is_plain_jpeg(blob):
        try:
            return simplejpeg.decode_jpeg(blob, "RGB")
        except ValueError:
            pass  # libjpeg warns: whether the pixels can be used is for `open_rgb` to say
    try:
        return np.array(open_rgb(blob))
    except ValueError as error:
        raise DamagedImage(str(error)) from error


def is_plain_jpeg(blob: bytes) -> bool:
    """Whether libjpeg alone gives the pixels that PIL would: 8 bits, grey or YCbCr, upright, of a reasonable size."""
    if not blob.startswith(_START_OF_IMAGE):
        return False
    try:
        return _has_plain_segments(blob)
    except (struct.error, IndexError):  # it ends before its pixels begin
        return False


def empty_batch(images: int, size: int) -> Tensor:
    """Room for a batch: uint8 [images, 3, size, size], channels last."""
    return torch.empty((images, 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)


def write_crop(image: np.ndarray, box: tuple[int, int, int, int], into: Tensor) -> None:
    """Resize the part of `image` in `box` (left, top, right, bottom) to fill `into`, one image of a batch."""
    left, top, right, bottom = box
    _resize(image[top:bottom, left:right], into)


def write_centre(image: np.ndarray, into: Tensor) -> None:
    """Resize `image` so that its shorter side fits, and its centre to `into`: OpenCLIP's transform for evaluation."""
    size = into.shape[-1]
    height, width = image.shape[:2]
    shorter = min(height, width)
    scaled_height, scaled_width = int(size * height / shorter), int(size * width / shorter)
    if scaled_height == scaled_width:
        return _resize(image, into)
    scaled = torch.empty((scaled_height, scaled_width, 3), dtype=torch.uint8)
    _resize(image, scaled.permute(2, 0, 1))
    top, left = round((scaled_height - size) / 2), round((scaled_width - size) / 2)
    into.permute(1, 2, 0).numpy()[:] = scaled.numpy()[top : top + size, left : left + size]


def _resize(image: np.ndarray, into: Tensor) -> None:
    """Antialiased bicubic, on the calling thread alone.

    NumPy copies the part, since torch would spread that over its threads, which belong to the model.
    """
    source = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # [1, 3, height, width]
    # what F.interpolate(mode="bicubic", antialias=True) calls, without a copy of the result
    torch.ops.aten._upsample_bicubic2d_aa.out(source, into.shape[-2:], False, None, None, out=into[None])


def _has_plain_segments(blob: bytes) -> bool:
    """Walks the segments before the pixels; raises struct.error or IndexError where they end early."""
    at, has_exif, has_frame = 2, False, False
    while True:
        marker, length = _SEGMENT.unpack_from(blob, at)
        start, at = at + 4, at + 2 + length
        if marker == _START_OF_SCAN:
            return has_frame
        if marker in _FRAMES:
            has_frame = _is_plain_frame(blob, start)
        elif marker not in _HARMLESS or (marker == _ADOBE and not _is_ycbcr(blob, start)):
            return False
        elif marker == _EXIF_OR_XMP:
            is_exif = blob.startswith(_EXIF, start)
            if (is_exif and has_exif) or not _is_upright(blob[start:at]):  # PIL joins several
                return False
            has_exif |= is_exif


def _is_plain_frame(blob: bytes, start: int) -> bool:
    bits, height, width, components = _FRAME.unpack_from(blob, start)
    return bits == 8 and components in (1, 3) and 0 < height * width <= MAX_PIXELS


def _is_ycbcr(blob: bytes, start: int) -> bool:
    return not blob.startswith(b"Adobe", start) or blob[start + 11] == 1


def _is_upright(segment: bytes) -> bool:
    """Whether an application segment leaves the image as it is, as far as we can read it."""
    if not segment.startswith(_EXIF):
        return not _TURNED_BY_XMP.search(segment)
    exif = segment[len(_EXIF) :]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return False
    (directory,) = struct.unpack_from(f"{order}I", exif, 4)
    (entries,) = struct.unpack_from(f"{order}H", exif, directory)
    for at in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count, value = struct.unpack_from(f"{order}HHIH", exif, at)
        if tag == ORIENTATION:
            return (kind, count, value) == (3, 1, 1)  # one 16-bit number, 1: upright
    return True
