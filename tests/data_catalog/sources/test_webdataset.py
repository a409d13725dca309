"""WebDataset shards: groups of members are samples, what else lies there is told of, old shards are not read again."""

import gzip
import io
import json
import os
import tarfile

import pytest

from data_catalog.sources import shard_tables
from data_catalog.sources.webdataset import WebDataset


def tar(members, format=tarfile.PAX_FORMAT):
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=format) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1.5
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def as_json(**content):
    return json.dumps(content).encode()


@pytest.fixture
def shards(picture):
    """Two shards as img2dataset writes them, with the same keys in both."""

    def shard(start):
        members = {}
        for i in range(3):
            url = f"http://x/{start + i}"
            members |= {f"{i:04}.jpg": picture(start + i), f"{i:04}.txt": f"bild {start + i} ü".encode(),
                        f"{i:04}.json": as_json(caption=f"bild {start + i} ü", url=url, width=16)}  # fmt: skip
        return tar(members)

    return {"00000.tar": shard(0), "00001.tar": shard(10)}


def pool(root, **options):
    return WebDataset(name="pool", data=root, dataset="POOL", **options)


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_each_group_is_a_sample_with_its_caption(scheme, stores, shards, picture, ingested):
    source = pool(
        stores[scheme](shards), shards=["{00000..00001}.tar"], members={"attributes": ["json.url", "json.width"]}
    )
    found = ingested(source)
    numbers = {f"POOL/train/0000{s}/{i:04}": 10 * s + i for s in range(2) for i in range(3)}
    assert found.blobs == {id: picture(number) for id, number in numbers.items()}
    assert {id: row["default_caption"] for id, row in found.samples.items()} == {
        id: [f"bild {number} ü"] for id, number in numbers.items()}  # fmt: skip
    assert found.samples["POOL/train/00001/0002"]["attributes"] == '{"url": "http://x/12", "width": 16}'
    assert not found.refused and found.facts.kind == "retrieval"


def test_a_pool_is_indexed_without_looking_at_its_images(stores, ingested):
    root = stores["s3"]({"0.tar": tar({"a.jpg": b"never looked at", "a.txt": b"a text"})})
    found = ingested(pool(root, check="index"))
    assert found.blobs == {"POOL/train/0/a": b"never looked at"} and found.samples["POOL/train/0/a"]["phash"] is None


def test_packed_texts_folders_and_capitals_are_understood(stores, picture, ingested):
    members = {"d/ä.b/x y.JPG": picture(1), "d/ä.b/x y.txt.gz": gzip.compress("grün".encode())}
    members |= {"2.PNG": picture(2, "PNG"), "2.json.gz": gzip.compress(as_json(caption=["one", "two"]))}
    found = ingested(pool(stores["file"]({"s.tar": tar(members)})))
    assert {id: row["default_caption"] for id, row in found.samples.items()} == {
        "POOL/train/s/2": ["one", "two"], "POOL/train/s/d/ä.b/x y": ["grün"]}  # fmt: skip


def test_what_is_incomplete_or_damaged_is_refused_with_the_reason(stores, picture, ingested):
    packed = gzip.compress(b"a text that was packed")
    members = {
        "good.jpg": picture(0), "good.txt": b"good",
        "lonely.txt": b"no image", "silent.jpg": picture(1),
        "null.jpg": picture(2), "null.json": as_json(caption=None),
        "corrupt.jpg": picture(3), "corrupt.txt.gz": packed[:12] + b"\0\0\0\0" + packed[16:],
        "short.jpg": picture(4), "short.txt.gz": packed[:-9],
        "nojson.jpg": picture(5), "nojson.json": b"{",
        "list.jpg": picture(6), "list.json": b"[1]",
        "number.jpg": picture(7), "number.json": as_json(caption=7),
        "half.jpg": picture(8), "half.json": b'{"caption": "\\ud800"}',
        "latin.jpg": picture(9), "latin.txt": "ü".encode("latin-1"),
        "../evil.jpg": picture(10), "../evil.txt": b"evil",
    }  # fmt: skip
    found = ingested(pool(stores["file"]({"s.tar": tar(members)})))
    assert list(found.samples) == ["POOL/train/s/good"]
    codes = {id.rpartition("/")[2]: row["code"] for id, row in found.refused.items()}
    assert codes == dict.fromkeys(("corrupt", "short", "nojson", "list", "number", "half", "latin"), "bad_entry") | {
        "lonely": "no_image", "silent": "no_text", "null": "no_text", "evil.jpg": "unsafe_name",
        "evil.txt": "unsafe_name"}  # fmt: skip
    assert "cut short" in found.refused["POOL/s/short"]["reason"]


def test_classes_by_number_and_by_name(stores, picture, ingested):
    members = {"a.jpg": picture(0), "a.cls": b"1\n", "b.jpg": picture(1), "b.cls": b"cat"}
    root = stores["file"]({"s-val.tar": tar(members), "names.json": b'["cat", "dog"]'})
    found = ingested(pool(root, classnames="names.json", prompt_template="a {}."))
    assert {id: row["concept"] for id, row in found.samples.items()} == {
        "POOL/test/s-val/a": "dog", "POOL/test/s-val/b": "cat"}  # fmt: skip


def test_a_damaged_or_missing_shard_leaves_the_others_usable(stores, shards, ingested):
    contents = shards | {"00002.tar": b"x" * 2000, "00003.tar": shards["00000.tar"][:3000]}
    found = ingested(pool(stores["file"](contents), shards=["{00000..00004}.tar"]))
    assert len([id for id in found.samples if "/00000/" in id or "/00001/" in id]) == 6
    codes = {row["shard"]: row["code"] for row in found.refused.values()}
    assert codes["pool/00002.tar"] == "unreadable" and codes["pool/00004.tar"] == "unusable_file"
    assert "pool/00003.tar" in codes


def test_an_added_shard_does_not_have_the_others_indexed_again(stores, shards, ingested, monkeypatch):
    read = []
    index = shard_tables.index_tar
    monkeypatch.setattr(shard_tables, "index_tar", lambda path: read.append(os.path.basename(path)) or index(path))
    root = stores["file"]({"00000.tar": shards["00000.tar"]})
    os.utime(f"{root}/00000.tar", (1, 1))
    first = ingested(pool(root))
    stores["file"]({"00001.tar": shards["00001.tar"]})
    both = ingested(pool(root))
    assert read == ["00000.tar", "00001.tar"]
    assert first.samples.items() <= both.samples.items() and len(both.samples) == 6


def test_a_damaged_table_of_a_shard_is_made_again(stores, shards, home, ingested):
    root = stores["s3"](shards)
    before = pool(root).scan()
    for memory in shard_tables.places.home().joinpath("indexed").glob("*.parquet"):
        data = bytearray(memory.read_bytes())
        data[len(data) // 2] ^= 255
        memory.write_bytes(data)
    source = pool(root)
    assert source.candidates(source.listings()[0]).rows.num_rows == 6 and pool(root).scan() == before


def test_other_members_may_be_mapped_later(stores, shards, ingested):
    root = stores["s3"](shards)
    ingested(pool(root))
    found = ingested(pool(root, members={"captions": ["json.url"]}))
    assert found.samples["POOL/train/00000/0000"]["default_caption"] == ["http://x/0"]


def test_a_packed_tar_is_refused_with_what_is_expected(stores, shards, ingested):
    packed = {"00000.tar": gzip.compress(shards["00000.tar"])}
    found = ingested(pool(stores["file"](packed | {"00001.tar": shards["00001.tar"]})))
    assert "uncompressed tar" in found.refused["POOL/00000.tar"]["reason"]


def test_no_shard_is_an_error_that_names_what_was_looked_for(stores, shards):
    with pytest.raises(ValueError, match=r"no shard x-\{0\.\.9\}\.tar lies in .*correct `data`"):
        pool(stores["file"](shards), shards=["x-{0..9}.tar"]).scan()
