"""Ingest looks at what is new or changed, by content, and at nothing twice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_catalog import decisions, inspection, inspection_images, inspection_memory, reading
from data_catalog.files import stat_below
from data_catalog.shards import DatasetFacts, ingest
from data_catalog.sources.base import CANDIDATES, Candidates, Listing, Source
from data_catalog.sources.fomo_in_flux import FomoInFlux
from data_catalog.sources.image_folder import ImageFolder
from tests.data_catalog.conftest import aged, encoded


class Folder(Source):
    """Every file below a folder is a sample of one dataset; keys may be given to be other than the names."""

    name: str = "folder"
    data: str
    keys: dict[str, str] = {}  # noqa: RUF012

    def root(self):
        return self.data

    def listings(self):
        return [Listing("ALL", stat_below(self.data), json.dumps(self.keys, sort_keys=True))]

    def candidates(self, listing):
        rows = [
            {"split": "train", "key": self.keys.get(name, name), "concept": "c", "target": 0, "file": name,
             "shard": f"{self.name}/{name}", "offset": 0, "length": stat.size}
            for name, stat in listing.files.items()
        ]  # fmt: skip
        facts = DatasetFacts(name="ALL", kind="classification", prompt_template="A {}.", classnames=("c",))
        return Candidates(facts, pa.Table.from_pylist(rows, CANDIDATES), [])


@pytest.fixture
def source(tmp_path):
    """Six images in a folder."""
    root = tmp_path / "images"
    root.mkdir()
    for i in range(6):
        (root / f"{i}.png").write_bytes(encoded(i))
    aged(root)
    return Folder(data=str(root))


@pytest.fixture
def seen(monkeypatch):
    """What was read and how often pixels were decoded, since it was cleared."""
    seen = {"read": [], "decoded": 0}
    read, examine = reading.read_samples, inspection_images.examine

    def reading_spy(rows):
        seen["read"] += [shard.partition("/")[2] for shard in rows["shard"].to_pylist()]
        return read(rows)

    def examine_spy(data):
        seen["decoded"] += 1
        return examine(data)

    monkeypatch.setattr(reading, "read_samples", reading_spy)
    monkeypatch.setattr(inspection_images, "examine", examine_spy)
    return seen


def looked(source, seen):
    """A scan, with what it read and decoded."""
    seen |= {"read": [], "decoded": 0}
    (raw,) = source.scan()
    return raw, seen["read"], seen["decoded"]


def tables(source):
    samples, refused = source.read(source.scan()[0])
    return samples["key"].to_pylist(), {row["id"]: row["code"] for row in refused.to_pylist()}


def test_an_unchanged_source_is_not_read_again(source, seen):
    first, read, decoded = looked(source, seen)
    assert len(read) == decoded == 6
    assert looked(source, seen) == (first, [], 0)


def test_one_image_more_is_the_one_that_is_read(source, seen):
    before = source.scan()
    Path(source.data, "new.png").write_bytes(encoded(7))
    after, read, decoded = looked(source, seen)
    assert (read, decoded) == (["new.png"], 1) and [after] != before


def test_a_removed_image_is_gone_and_nothing_is_read(source, seen):
    source.scan()
    Path(source.data, "0.png").unlink()
    assert looked(source, seen)[1:] == ([], 0)
    assert "0.png" not in tables(source)[0] and len(tables(source)[0]) == 5


def test_a_renamed_image_is_read_but_not_decoded(source, seen):
    source.scan()
    Path(source.data, "0.png").rename(Path(source.data, "renamed.png"))
    assert looked(source, seen)[1:] == (["renamed.png"], 0)


def test_moved_data_is_not_decoded_and_is_the_same_dataset(source, seen, tmp_path):
    before = source.scan()
    shutil.copytree(source.data, tmp_path / "elsewhere")
    after, read, decoded = looked(Folder(data=str(tmp_path / "elsewhere")), seen)
    assert ([after], len(read), decoded) == (before, 6, 0)


def test_an_interrupted_ingest_goes_on(source, seen, monkeypatch):
    monkeypatch.setattr(inspection_images, "UNIT", 1)
    monkeypatch.setattr(inspection_images, "UNITS_AT_ONCE", 2)

    def interrupt(label, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source.scan(interrupt)
    assert len(looked(source, seen)[1]) == 4


def test_a_killed_ingest_goes_on(source, seen):
    program = (
        "import os, sys; from data_catalog import inspection_images as images;"
        "from tests.data_catalog.test_inspection import Folder;"
        "images.UNIT = images.UNITS_AT_ONCE = 1; images.FLUSH_SECONDS = 0;"
        "Folder(data=sys.argv[1]).scan(lambda label, done, total: done < 3 or os._exit(9))"
    )
    root = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", program, source.data], cwd=root, env={**os.environ})
    assert killed.returncode == 9
    assert len(looked(source, seen)[1]) == 3


def test_progress_is_told(source):
    told = []
    source.scan(lambda *progress: told.append(progress))
    assert told == [("inspect ALL", 6, 6), ("scan folder", 1, 1)]


@pytest.mark.parametrize("seconds", [0, 3600], ids=["in the same tick", "in the future"])
def test_a_rewrite_that_carries_the_same_time_is_noticed(source, seconds):
    path = Path(source.data, "0.png")
    path.write_bytes(encoded(8, "BMP"))
    now = path.stat().st_mtime_ns + seconds * 10**9
    os.utime(path, ns=(now, now))
    before = source.scan()
    path.write_bytes(encoded(9, "BMP"))
    os.utime(path, ns=(now, now))
    assert source.scan() != before


def test_a_clock_ahead_costs_reading_but_no_decoding(source, seen):
    path = Path(source.data, "0.png")
    os.utime(path, (4e9, 4e9))
    first = source.scan()[0]
    assert looked(source, seen) == (first, ["0.png"], 0)
    assert looked(source, seen) == (first, ["0.png"], 0)


def test_failed_images_alone_are_tried_again(source, seen, monkeypatch):
    whole = reading.files.read_ranges

    def fails(wanted):
        if any(each.location.endswith("0.png") for each in wanted):
            raise PermissionError(13, "Permission denied", wanted[0].location)
        return whole(wanted)

    with monkeypatch.context() as patch:
        patch.setattr(reading.files, "read_ranges", fails)
        before = source.scan()
        assert tables(source)[1] == {"ALL/train/0.png": "unreadable"}
    after, read, decoded = looked(source, seen)
    assert ([after] != before, read, decoded) == (True, ["0.png"], 1)
    assert tables(source)[1] == {}


def test_a_refused_image_is_not_decoded_again_unless_asked_for(source, seen):
    Path(source.data, "bad.png").write_bytes(encoded(0, size=64)[:-600])
    aged(Path(source.data))
    assert tables(source)[1] == {"ALL/train/bad.png": "truncated"}
    assert looked(source, seen)[1:] == ([], 0)
    inspection_memory.forget_refusals("folder")
    assert looked(source, seen)[1:] == (["bad.png"], 1)


def test_a_released_sample_is_accepted_without_a_second_look(source, seen):
    Path(source.data, "tiny.png").write_bytes(encoded(0, size=2))
    aged(Path(source.data))
    refused = source.scan()
    assert tables(source)[1] == {"ALL/train/tiny.png": "absurd_size"}
    decisions.release(["ALL/train/tiny.png"], "we train on icons")
    accepted, read, _ = looked(source, seen)
    assert ([accepted] != refused, read, tables(source)[1]) == (True, [], {})
    assert ingest(source, accepted).samples == {"train": 7}


@pytest.mark.parametrize("name", ["outcomes.parquet", "look.json"])
def test_damaged_memory_is_found_out_again_and_said(source, seen, tmp_path, caplog, name):
    first = source.scan()[0]
    for path in (tmp_path / "home/inspected").rglob("*.*"):
        data = path.read_bytes()
        if path.name == name or name == "outcomes.parquet":
            path.write_bytes(data[: len(data) // 2])
    assert looked(source, seen)[0] == first
    assert name in caplog.text and "damaged" in caplog.text


def test_two_samples_with_one_id_are_one(source):
    twice = Folder(data=source.data, keys={"0.png": "same", "1.png": "same"})
    keys, refused = tables(twice)
    assert keys.count("same") == 1 and refused == {"ALL/train/same": "duplicate_id"}


def test_files_that_are_no_images_of_this_folder_are_refused(source, tmp_path):
    root = Path(source.data)
    (root / "deep").mkdir()
    (tmp_path / "outside.png").write_bytes(encoded(0))
    (root / "inside.png").symlink_to(root / "0.png")
    (root / "leaves.png").symlink_to(tmp_path / "outside.png")
    (root / "dangles.png").symlink_to(root / "nowhere.png")
    (root / "deep/empty.png").write_bytes(b"")
    (root / "page.jpg").write_text("<html>")
    keys, refused = tables(source)
    assert "inside.png" in keys and {name.rpartition("/")[2]: code for name, code in refused.items()} == {
        "leaves.png": "unusable_file", "dangles.png": "unusable_file", "empty.png": "empty", "page.jpg": "not_an_image",
    }  # fmt: skip


def test_indexing_reads_nothing_and_goes_by_size_and_version(source, seen):
    index = source.model_copy(update={"check": "index"})
    first, read, _ = looked(index, seen)
    samples = index.read(first)[0]
    assert read == [] and samples["hash"].null_count == samples["phash"].null_count == 6
    Path(source.data, "0.png").write_bytes(encoded(0))
    os.utime(Path(source.data, "0.png"), (1e9, 1e9))
    assert index.scan() != [first]


def test_tables_that_left_the_store_are_made_again_from_memory(source, seen, tmp_path):
    (raw,) = source.scan()
    before = source.read(raw)
    shutil.rmtree(tmp_path / "home/store")
    assert source.read(raw)[0].equals(before[0]) and seen["decoded"] == 6


def test_two_datasets_with_one_name_are_an_error(source, monkeypatch):
    def twice(self):
        return [Listing(name, {}, "") for name in ("ALL", "All")]

    monkeypatch.setattr(Folder, "listings", twice)
    with pytest.raises(ValueError, match=r"two datasets with one name.*ALL and All"):
        inspection.scan(source)


def test_hashes_and_sizes_are_those_of_the_images(source):
    row = source.read(source.scan()[0])[0].to_pylist()[0]
    assert (row["id"], row["width"], row["height"], row["format"]) == ("ALL/train/0.png", 8, 8, "PNG")
    assert row["phash"] == inspection_images.examine(encoded(0)).phash and row["phash"] <= np.iinfo(np.uint64).max


def test_unicode_slashes_and_case_in_names_are_kept(tiny_benchmark):
    entries = {name: {"classname": "cat", "target": 0, "default_caption": "é", "primer_caption": None,
                      "synthetic_caption": None, "synthetic_merged_caption": [None]}
               for name in ("日本/ü b.png", "A.png", "a.png", "x\\y.png")}  # fmt: skip
    entries = {key: value | {"synthetic_merged_caption": None} for key, value in entries.items()}
    for key in entries:
        path = tiny_benchmark / "BROAD" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(len(key)))
    (tiny_benchmark / "BROAD.tar").unlink()
    (tiny_benchmark / "BROAD_train.json").write_text(json.dumps(entries, ensure_ascii=False))
    source = FomoInFlux(name="tiny", data=str(tiny_benchmark), datasets=("BROAD",))
    samples, refused = source.read(source.scan()[0])
    assert samples["id"].to_pylist() == [f"BROAD/train/{key}" for key in entries] and refused.num_rows == 0


@pytest.mark.parametrize("name", ["..", ".", "a/b", ""])
def test_a_source_is_not_called_like_a_folder_above(name):
    with pytest.raises(ValueError, match="name"):
        ImageFolder(name=name, data=".", dataset="ALL")


def test_a_rewrite_with_its_time_set_back_is_seen(source, seen):
    before = looked(source, seen)[0]
    first = sorted(Path(source.data).iterdir())[0]
    times = first.stat()
    first.write_bytes(bytes(reversed(first.read_bytes())))
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert looked(source, seen)[0] != before
