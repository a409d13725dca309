"""Reading samples: the very bytes that were ingested, wherever they lie, or an error that says what became of them."""

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_catalog import parquet_rows, places
from data_catalog.reading import read_sample, read_samples

BLOBS = [b"image %d " % i * (i + 1) for i in range(12)]
SCHEMES = ["file", "memory", "s3"]


def sha(data):
    return hashlib.sha256(data).digest()


def parquet(values=BLOBS, rows=5):
    images = pa.array(
        [{"bytes": value, "path": None} for value in values], pa.struct({"bytes": "binary", "path": "string"})
    )
    pq.write_table(pa.table({"image": images, "raw": pa.array(values)}), buffer := io.BytesIO(), row_group_size=rows)
    return buffer.getvalue()


@pytest.fixture(params=SCHEMES)
def root(request, stores):
    """A source called `src` with a plain file per blob, one file with all of them, and a Parquet file."""
    contents = {f"ä/{i}.jpg": blob for i, blob in enumerate(BLOBS)} | {"all.tar": b"".join(BLOBS)}
    root = stores[request.param](contents | {"rows.parquet": parquet()})
    places.register_source("src", root)
    return root


def samples():
    """Every blob in each of its four places."""
    starts = [sum(map(len, BLOBS[:i])) for i in range(len(BLOBS))]
    rows = [(f"src/ä/{i}.jpg", 0, blob) for i, blob in enumerate(BLOBS)]
    rows += [("src/all.tar", start, blob) for start, blob in zip(starts, BLOBS, strict=True)]
    for column in ("image.bytes", "raw"):
        rows += [(f"src/rows.parquet::{column}", i, blob) for i, blob in enumerate(BLOBS)]
    return [(shard, offset, len(blob), sha(blob)) for shard, offset, blob in rows]


def table(rows):
    return pa.table(dict(zip(("shard", "offset", "length", "hash"), map(list, zip(*rows, strict=True)), strict=True)))


def test_each_place_gives_the_bytes_that_lie_there(root):
    assert [read_sample(*row) for row in samples()] == BLOBS * 4


def test_many_are_read_in_the_order_asked_for(root):
    rows = [samples()[i] for i in (30, 5, 20, 47, 0, 30, 13, 12)]
    assert [sha(data) for data in read_samples(table(rows))] == [row[3] for row in rows]


def test_bytes_never_read_before_are_not_verified(root):
    assert read_sample("src/ä/3.jpg", 0, len(BLOBS[3]), None) == BLOBS[3]


def test_nothing_is_read_for_no_rows(root):
    assert read_samples(table(samples()).slice(0, 0)) == []


@pytest.mark.parametrize("row", [0, 12, 24])
def test_changed_bytes_are_told_from_those_ingested(root, row):
    shard, offset, length, _ = samples()[row]
    with pytest.raises(ValueError, match=rf"{shard} changed .* at (byte|row) 0 expected SHA-256 .*ingest it again"):
        read_sample(shard, offset, length, sha(b"other"))


@pytest.mark.parametrize("shard", ["src/ä/1.jpg", "src/all.tar"])
def test_a_file_that_ends_too_early_says_how_much_is_there(root, shard):
    with pytest.raises(ValueError, match=r"expected 5000 bytes, found \d+"):
        read_sample(shard, 0, 5000, None)


def test_a_range_behind_the_end_of_a_file_is_said_to_be_empty(root):
    with pytest.raises(ValueError, match="expected 5 bytes, found 0"):
        read_sample("src/all.tar", 10**6, 5, None)


@pytest.mark.parametrize("shard", ["src/gone.jpg", "src/gone.parquet::image"])
def test_a_file_that_is_gone_is_named(root, shard):
    with pytest.raises(ValueError, match=r"gone\.(jpg|parquet)"):
        read_sample(shard, 0, 5, None)


def test_a_row_or_column_that_is_not_there_is_named(root):
    with pytest.raises(ValueError, match="has 12 rows, row 12 was asked for"):
        read_sample("src/rows.parquet::raw", 12, 5, None)
    with pytest.raises(ValueError, match=r"no column 'image\.pixels', found \['image', 'raw'\]"):
        read_sample("src/rows.parquet::image.pixels", 0, 5, None)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_parquet_file_ingested_again_is_read_anew(stores, scheme):
    root = stores[scheme]({"rows.parquet": parquet()})
    places.register_source("src", root)
    read_sample("src/rows.parquet::raw", 2, len(BLOBS[2]), sha(BLOBS[2]))
    stores[scheme]({"rows.parquet": parquet([b"new %d" % i for i in range(12)])})
    assert read_sample("src/rows.parquet::raw", 2, 5, sha(b"new 2")) == b"new 2"


def test_what_is_no_parquet_file_is_named(stores):
    places.register_source("src", stores["memory"]({"rows.parquet": b"PAR1 but not really"}))
    with pytest.raises(ValueError, match=r"cannot read memory://.*not a parquet file"):
        read_sample("src/rows.parquet::raw", 0, 5, None)


def test_only_so_many_bytes_of_row_groups_are_kept(stores):
    places.register_source("src", stores["file"]({"rows.parquet": parquet([b"x" * 1000] * 40, rows=4)}))
    location = places.locate_shard("src/rows.parquet")
    version = parquet_rows._version(location)
    kept = parquet_rows._KeptGroups(10_000)
    for number in (*range(10), 0):
        kept.get(parquet_rows._Group(location, version, "raw", number))
    assert len(kept._columns) == 2 and kept._size <= 10_000


def test_threads_read_the_same(root):
    def read(_worker):
        return all(sha(read_sample(*row)) == row[3] for row in samples())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))


def test_a_forked_process_reads_with_its_parent_s_files_open(stores):
    contents = {"all.tar": b"".join(BLOBS), "rows.parquet": parquet()}
    places.register_source("src", stores["file"](contents))
    rows = samples()[12:]
    read_samples(table(rows))
    child = os.fork()
    if not child:
        os._exit(read_samples(table(rows)) != BLOBS * 3)
    assert os.waitpid(child, 0)[1] == 0
