import io
import itertools

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision.transforms import Compose

from data_catalog.sources.images import open_rgb
from models.decoding import DamagedImage, decode, empty_batch, is_plain_jpeg, write_centre, write_crop

MOST_LEVELS, MEAN_LEVELS = 2, 0.01  # of 255: how far resized pixels may be from PIL's
SIZES = [(500, 375), (299, 224), (32, 32), (33, 31), (101, 17), (8, 8)]


def _photograph(which=0):
    return Image.fromarray(load_sample_images().images[which])


def _noise(width, height):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _encoded(image, format="JPEG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


def _turned(orientation, **settings):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker", orientation
    return _encoded(_photograph().resize((48, 32)), exif=exif, **settings)


def _xmp(orientation):
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()


def _apart(image, wanted):
    """Largest and mean difference in levels of 255."""
    apart = np.abs(np.asarray(image).astype(int) - np.asarray(wanted).astype(int))
    return apart.max(), apart.mean()


def _bicubic(image, size):
    """As Pillow resized before version 13, which begins tall images with the other pass: noise ends 20 levels apart."""
    return image.resize((size, image.height), Image.Resampling.BICUBIC).resize((size, size), Image.Resampling.BICUBIC)


def _assert_alike(image, wanted):
    most, mean = _apart(image.permute(1, 2, 0), wanted)
    assert most <= MOST_LEVELS and mean <= MEAN_LEVELS, (most, mean)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("is_progressive", [False, True])
def test_plain_jpegs_give_the_bits_of_pil(mode, is_progressive):
    for which, size, quality, chroma in itertools.product((0, 1), SIZES, (60, 95), (0, 1, 2)):
        image = _photograph(which).crop((10, 20, 10 + size[0], 20 + size[1])).convert(mode)
        blob = _encoded(image, quality=quality, subsampling=chroma, progressive=is_progressive)
        assert is_plain_jpeg(blob) and np.array_equal(decode(blob), open_rgb(blob))


@pytest.mark.parametrize(
    "blob",
    [
        _encoded(_photograph().convert("CMYK")),
        _encoded(_photograph(), keep_rgb=True),
        _encoded(_photograph(), "PNG"),
        _encoded(_photograph().convert("P"), "GIF"),
        _encoded(_photograph(), "WEBP"),
        _turned(6),
        _turned(1, xmp=_xmp(1)).replace(b"Exif\0\0MM", b"Exif\0\0XX").replace(b"Exif\0\0II", b"Exif\0\0XX"),
        _encoded(_photograph(), xmp=_xmp(3)),
    ],
    ids=["cmyk", "rgb jpeg", "png", "gif", "webp", "turned", "strange exif", "turned by xmp"],
)
def test_everything_else_is_what_open_rgb_says(blob):
    assert not is_plain_jpeg(blob)
    assert np.array_equal(decode(blob), open_rgb(blob))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_photographs_stand_upright(orientation):
    blob = _turned(orientation)
    assert is_plain_jpeg(blob) == (orientation == 1)
    assert decode(blob).shape == ((32, 48, 3) if orientation <= 4 else (48, 32, 3))
    assert np.array_equal(decode(blob), open_rgb(blob))


def test_photographs_with_harmless_metadata_are_plain():
    assert is_plain_jpeg(_turned(1, xmp=_xmp(1), comment=b"of a temple", icc_profile=b"colours" * 100))


@pytest.mark.filterwarnings("ignore:.*(EXIF|Truncated|Tag data).*:UserWarning")
def test_a_damaged_jpeg_is_refused_or_has_the_pixels_of_pil():
    rng, whole, used = np.random.default_rng(0), _turned(1), 0
    for attempt in range(400):
        blob = bytearray(whole)
        blob[rng.integers(2, len(blob) if attempt % 2 else 700)] = rng.integers(0, 256)
        blob = bytes(blob[: rng.integers(4, len(blob))] if attempt % 5 == 0 else blob)
        try:
            wanted = open_rgb(blob)
        except ValueError:
            with pytest.raises(DamagedImage):
                decode(blob)
            continue
        used += 1
        assert np.array_equal(decode(blob), wanted)
    assert 50 < used < 350


@pytest.mark.parametrize("blob", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\0\x10JFIF", b"no image", _turned(1)[:900]])
def test_what_is_no_image_is_said_to_be_damaged(blob):
    with pytest.raises(DamagedImage, match="not usable as an image"):
        decode(blob)


@pytest.mark.parametrize("image", [_photograph(0), _photograph(1), _noise(300, 200), _noise(31, 57)])
@pytest.mark.parametrize("size", [16, 224])
def test_training_crops_are_those_of_pil(image, size):
    box = (3, 5, image.width - 2, image.height - 9)
    batch = empty_batch(3, size)
    write_crop(np.array(image), box, batch[1])
    _assert_alike(batch[1], _bicubic(image.crop(box), size))


def _examples():
    photograph = _photograph()
    yield from (_encoded(_photograph(which), quality=90) for which in (0, 1))
    yield from (_encoded(photograph.resize(size)) for size in ((223, 224), (224, 225), (32, 32), (1000, 33), (57, 31)))
    yield _encoded(photograph, "PNG")
    yield from (_encoded(photograph.convert(mode)) for mode in ("L", "CMYK"))
    yield _encoded(_noise(301, 227), "PNG")


@pytest.mark.parametrize("size", [32, 224])
def test_evaluation_images_are_those_of_open_clip(size):
    transform = open_clip.image_transform(size, is_train=False)
    to_pixels = Compose(transform.transforms[:-2])  # without ToTensor and Normalize
    for blob in _examples():
        batch = empty_batch(2, size)
        write_centre(decode(blob), batch[1])
        _assert_alike(batch[1], to_pixels(Image.open(io.BytesIO(blob))))


def test_pixels_do_not_depend_on_threads_or_neighbours():
    images = [np.array(_photograph(which)) for which in (0, 1)]
    alone, together = empty_batch(1, 64), empty_batch(2, 64)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        write_crop(images[1], (0, 0, 600, 400), alone[0])
        torch.set_num_threads(2)
        for image, into in zip(images, together, strict=True):
            write_crop(image, (0, 0, 600, 400), into)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone[0], together[1]) and together.is_contiguous(memory_format=torch.channels_last)
