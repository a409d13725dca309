"""Where things lie: sources by name, whoever registers them at the same time."""

import json
import multiprocessing

import pytest

from data_catalog import places


@pytest.fixture(autouse=True)
def unpinned(monkeypatch):
    monkeypatch.setenv("EVERGREEN_SOURCES", "{}")


def test_a_folder_and_a_url_lead_to_their_files(tmp_path):
    places.register_source("here", tmp_path)
    places.register_source("there", "s3://bucket/data/")
    assert places.locate_shard("here/a/b.jpg") == str(tmp_path / "a" / "b.jpg")
    assert places.locate_shard("there/ä b.jpg") == "s3://bucket/data/ä b.jpg"


def test_a_web_server_is_asked_with_a_quoted_name():
    places.register_source("web", "https://host/data")
    assert places.locate_shard("web/ä b.parquet::image.bytes") == "https://host/data/%C3%A4%20b.parquet::image.bytes"


def test_a_file_url_is_a_local_folder(tmp_path):
    places.register_source("here", f"file://{tmp_path}")
    assert places.locate_shard("here/x") == str(tmp_path / "x")


def test_an_unknown_source_is_named_with_the_known(tmp_path):
    places.register_source("here", tmp_path)
    with pytest.raises(ValueError, match=r"no source 'elsewhere' was ingested, known: \['here'\]"):
        places.locate_shard("elsewhere/x.jpg")


def _register(worker):
    for i in range(10):
        places.register_source(f"source_{worker}_{i}", f"/data/{worker}/{i}")


def test_writers_at_the_same_time_lose_nothing_of_each_other():
    workers = [multiprocessing.get_context("spawn").Process(target=_register, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(json.loads((places.home() / "sources.json").read_text())) == 40
