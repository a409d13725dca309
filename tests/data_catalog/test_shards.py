"""Images are read where they lie, and only while they are what was ingested."""

from pathlib import Path

import pytest

from data_catalog import reading, shards, store
from data_catalog.places import locate_shard
from data_catalog.sources import tars


def rows(dataset):
    return store.read_table(dataset.digest).to_pylist()


def test_every_sample_reads_back_from_folder_and_tar(datasets):
    columns = ("shard", "offset", "length", "hash")
    read = [reading.read_sample(*(row[c] for c in columns)) for dataset in datasets.values() for row in rows(dataset)]
    assert len(read) == 27 and all(data.startswith(b"\x89PNG") for data in read)


def test_changed_bytes_are_refused_with_the_shard_named(datasets):
    row = rows(datasets["SHAPES"])[0]
    Path(locate_shard(row["shard"])).write_bytes(b"x" * row["length"])
    with pytest.raises(ValueError, match=r"SHAPES/circle/0\.png changed"):
        reading.read_sample(row["shard"], row["offset"], row["length"], row["hash"])


def test_a_tar_index_leaves_out_members_that_leave_the_archive(tiny_benchmark):
    names = tars.index_tar(str(tiny_benchmark / "SCENES.tar")).members["name"].to_pylist()
    assert len(names) == 7 and all(name.startswith("SCENES/") for name in names)


def test_a_file_that_is_no_tar_is_an_error_that_names_it(tiny_benchmark):
    (tiny_benchmark / "SCENES.tar").write_bytes(b"nonsense" * 100)
    with pytest.raises(ValueError, match=r"SCENES\.tar.*uncompressed tar"):
        tars.index_tar(str(tiny_benchmark / "SCENES.tar"))


def test_facts_ride_in_the_sample_table(datasets):
    known = shards.facts(datasets["SHAPES"])
    assert known.classnames == ("circle", "square", "star")
    assert known.prompt("star") == "A photo of a star."
    assert shards.facts(datasets["SCENES"]).prompt_template is None
