"""Every kind of file that is called an image has one defined outcome."""

import io
import struct
import zlib

import imagehash
import numpy as np
import pytest
from PIL import Image

from data_catalog.quarantine import CODES
from data_catalog.sources.images import MAX_BYTES, Fault, Header, examine, open_rgb, perceptual_hash

PATCHES = np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8)
PICTURE = Image.fromarray(np.kron(PATCHES, np.ones((8, 8, 1), np.uint8)))  # 64 x 48
GREY16 = Image.fromarray((np.arange(64 * 48, dtype=np.uint16) * 21).reshape(48, 64))


def encoded(image=PICTURE, format="PNG", **options):
    image.save(buffer := io.BytesIO(), format, **options)
    return buffer.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks):
    return encoded()[:33] + b"".join(chunks) + encoded()[33:]


def png_of(width, height):
    return encoded()[:8] + chunk(b"IHDR", struct.pack(">II", width, height) + b"\x08\x02\0\0\0") + encoded()[33:]


def flipped(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :]


def rotated(format):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(format=format, exif=exif)


ACCEPTED = {
    "CMYK": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "YCCK": encoded(PICTURE.convert("CMYK"), "JPEG", subsampling=2),
    "16 bit": encoded(GREY16),
    "16 bit PGM": b"P5 64 48 65535\n" + np.asarray(GREY16).astype(">u2").tobytes(),
    "palette": encoded(PICTURE.convert("P")),
    "palette with transparency": encoded(PICTURE.convert("P"), transparency=bytes(range(256))),
    "animated GIF": encoded(format="GIF", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")]),
    "animated WebP": encoded(format="WEBP", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")]),
    "animated PNG": encoded(save_all=True, append_images=[Image.new("RGB", (64, 48), "red")]),
    "1 bit": encoded(PICTURE.convert("1")),
    "grey and alpha": encoded(PICTURE.convert("LA")),
    "RGBA": encoded(PICTURE.convert("RGBA")),
    "TIFF": encoded(format="TIFF"),
    "long text": png_with(chunk(b"tEXt", b"k\0" + b"a" * 2_000_000)),
    "damaged EXIF": encoded(format="JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12garbage"),
}
REFUSED = {
    "no bytes": (b"", "empty"),
    "a page called .jpg": (b"<html>not found</html>" * 20, "not_an_image"),
    "a drawing that is a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
    "JPEG cut short": (encoded(format="JPEG")[:-200], "truncated"),
    "JPEG header alone": (encoded(format="JPEG")[:100], "truncated"),
    "PNG cut short": (encoded()[:-80], "truncated"),
    "GIF cut short": (encoded(format="GIF")[:-80], "truncated"),
    "WebP cut short": (encoded(format="WEBP")[:-80], "damaged"),
    "a bit flipped": (flipped(encoded()), "damaged"),
    "a bomb": (png_of(60_000, 60_000), "too_many_pixels"),
    "a text that unpacks": (png_with(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(5_000_000)))), "oversized_text"),
    "texts beyond measure": (png_with(*[chunk(b"tEXt", b"k\0" + bytes(40_000_000))] * 2), "oversized_text"),
    "floating point": (encoded(PICTURE.convert("F"), "TIFF"), "unsupported_pixels"),
    "1 x 1": (encoded(Image.new("RGB", (1, 1))), "absurd_size"),
    "a line": (encoded(Image.new("RGB", (2000, 10))), "absurd_size"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_unusual_images_are_accepted_as_rgb(data):
    header = examine(data)
    assert isinstance(header, Header) and header[:2] == (64, 48)
    assert open_rgb(data).mode == "RGB" and np.asarray(open_rgb(data)).shape == (48, 64, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED)
def test_unusable_images_are_refused_with_their_code(data, code):
    fault = examine(data)
    assert isinstance(fault, Fault) and fault.code == code and code in CODES
    assert (fault.header is not None) == CODES[code].releasable
    assert "0x" not in fault.reason and "\n" not in fault.reason


def test_a_large_image_just_above_the_limit_is_not_decoded():
    with pytest.warns(Image.DecompressionBombWarning):
        assert examine(png_of(60_000, 1_500)).code == "too_many_pixels"


def test_an_absurd_number_of_bytes_is_refused_unread():
    class Huge(bytes):
        def __len__(self):
            return MAX_BYTES + 1

    assert examine(Huge(b"x")).code == "too_large"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_of_the_camera_is_applied(format):
    assert examine(rotated(format))[:2] == (48, 64)
    upright = np.asarray(open_rgb(encoded(format=format))).astype(int)
    assert abs(np.rot90(upright, -1) - np.asarray(open_rgb(rotated(format)))).max() <= 1


@pytest.mark.parametrize("name", ["animated GIF", "animated PNG"])
def test_the_first_frame_is_the_image(name):
    assert np.array_equal(np.asarray(open_rgb(ACCEPTED[name])), np.asarray(PICTURE))


@pytest.mark.parametrize("name", ["16 bit", "16 bit PGM"])
def test_sixteen_bits_are_scaled_not_clipped(name):
    assert np.array_equal(np.asarray(open_rgb(ACCEPTED[name]))[..., 0], np.asarray(GREY16) >> 8)


def test_transparency_is_dropped_not_blended():
    clear = PICTURE.copy()
    clear.putalpha(0)
    assert np.array_equal(np.asarray(open_rgb(encoded(clear))), np.asarray(PICTURE))


def test_the_perceptual_hash_is_that_of_the_library_and_survives_scaling():
    header = examine(encoded())
    assert f"{header.phash:016x}" == str(imagehash.phash(PICTURE))
    larger = perceptual_hash(PICTURE.resize((256, 192), Image.Resampling.BICUBIC))
    assert (header.phash ^ larger).bit_count() <= 6


def test_an_unusable_image_says_so_when_it_is_opened():
    with pytest.raises(ValueError, match="not usable as an image: does not begin as an image"):
        open_rgb(b"nonsense")


def test_damage_that_a_decoder_answers_with_its_own_error_is_a_fault(monkeypatch):
    def burst(*_):
        raise RuntimeError("Failed to decode frame 0")

    Image.new("RGB", (9, 9)).save(data := io.BytesIO(), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", burst)
    assert isinstance(examine(data.getvalue()), Fault)


def test_integers_of_32_bits_have_no_white():
    Image.fromarray(np.arange(256, dtype=np.int32).reshape(16, 16)).save(data := io.BytesIO(), "TIFF")
    assert examine(data.getvalue()).code == "unsupported_pixels"
