import resource
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pyarrow as pa
import pytest
import torch

from models.batches import centred_images
from models.clip import preprocessing
from models.decoded_cache import DecodedCache
from models.embeddings import decoded_batches


@pytest.fixture
def rows(step_plan):
    from data_catalog.store import read_table

    return read_table(step_plan.digest, ["shard", "offset", "length", "hash"]).slice(0, 24)


@pytest.fixture
def decode():
    """Decodes and counts."""

    def decode(rows):
        decode.images += rows.num_rows
        return centred_images(rows, 16)

    decode.images = 0
    return decode


def opened(tmp_path):
    return DecodedCache(tmp_path / "decoded", 16, squash=False)


def test_kept_images_are_those_that_were_decoded(tmp_path, rows, decode):
    first = opened(tmp_path).images(rows, decode)
    again = opened(tmp_path).images(rows.take(pa.array([5, 3, 20])), decode)
    assert torch.equal(first, centred_images(rows, 16)) and torch.equal(again, first[[5, 3, 20]])
    assert decode.images == 24 and again.is_contiguous(memory_format=torch.channels_last)


def test_only_what_is_missing_is_decoded(tmp_path, rows, decode):
    opened(tmp_path).images(rows.slice(4, 6), decode)
    assert torch.equal(opened(tmp_path).images(rows, decode), centred_images(rows, 16)) and decode.images == 24


def test_images_of_unknown_hash_are_decoded_every_time(tmp_path, rows, decode):
    unknown = rows.set_column(3, "hash", pa.nulls(24, pa.binary(32)))
    for _ in range(2):
        assert torch.equal(opened(tmp_path).images(unknown, decode), centred_images(rows, 16))
    assert decode.images == 48


@pytest.mark.parametrize("damage", [lambda data: b"\0" + data[1:], lambda data: data[: len(data) // 2]])
def test_damaged_records_are_decoded_and_written_again(tmp_path, rows, decode, damage, caplog):
    opened(tmp_path).images(rows, decode)
    (path,) = (tmp_path / "decoded").glob("*/pixels")
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        assert torch.equal(opened(tmp_path).images(rows, decode), centred_images(rows, 16))
    assert 24 < decode.images <= 48 and "damaged" in caplog.text


def test_what_a_killed_writer_left_is_cut_off(tmp_path, rows, decode):
    opened(tmp_path).images(rows.slice(0, 8), decode)
    (folder,) = (tmp_path / "decoded").iterdir()
    for name in ("pixels", "index"):
        with open(folder / name, "ab") as file:
            file.write(b"half")
    opened(tmp_path).images(rows, decode)
    assert torch.equal(opened(tmp_path).images(rows, decode), centred_images(rows, 16)) and decode.images == 24


def test_threads_share_it(tmp_path, rows, decode):
    cache, expected = opened(tmp_path), centred_images(rows, 16)
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda start: cache.images(rows.slice(start, 12), decode), [0, 6, 12, 3] * 4)
        for start, images in zip([0, 6, 12, 3] * 4, found, strict=True):
            assert torch.equal(images, expected[start : start + 12])


def test_an_image_that_several_decode_at_once_is_kept_once(tmp_path, rows, decode):
    all_have_decoded = Barrier(3)

    def decode_beside_others(some):
        images = decode(some)
        all_have_decoded.wait(10)
        return images

    twice = rows.take(pa.array([*range(24), 3]))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: opened(tmp_path).images(twice, decode_beside_others), range(3)))
    (path,) = (tmp_path / "decoded").glob("*/pixels")
    assert path.stat().st_size == 24 * 3 * 16 * 16
    assert all(torch.equal(images, centred_images(twice, 16)) for images in found)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "decoded").write_text("a file")
    with pytest.raises(ValueError, match=r"cannot be kept in .*decoded.*EVERGREEN_DECODED"):
        opened(tmp_path)


def test_a_full_disk_is_told_and_leaves_what_was_kept(tmp_path, rows, decode):
    cache = opened(tmp_path)
    cache.images(rows.slice(0, 4), decode)
    (folder,) = (tmp_path / "decoded").iterdir()
    before = [(folder / name).read_bytes() for name in ("index", "pixels")]
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 * 768, limit[1]))
    try:
        with pytest.raises(ValueError, match=r"cannot be kept in .*EVERGREEN_DECODED"):
            cache.images(rows, decode)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert (folder / "index").read_bytes() == before[0] and (folder / "pixels").read_bytes().startswith(before[1])
    assert torch.equal(opened(tmp_path).images(rows, decode), centred_images(rows, 16))


def test_it_is_used_only_where_a_folder_is_named(tmp_path, rows, tiny, monkeypatch):
    wanted = preprocessing(tiny.backbone)
    ((_, plain),) = decoded_batches(wanted, [(None, rows)])
    assert not (tmp_path / "decoded").exists()
    monkeypatch.setenv("EVERGREEN_DECODED", str(tmp_path / "decoded"))
    for _ in range(2):
        ((_, kept),) = decoded_batches(wanted, [(None, rows)])
        assert torch.equal(kept, plain)
    assert [*(tmp_path / "decoded").glob("16-crop-*/pixels")]
