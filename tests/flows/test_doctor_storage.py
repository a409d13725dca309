"""What the doctor says of folders, object storage, room, the catalog and the sources."""

import os
import subprocess
import sys
import time

import pytest

from data_catalog import catalog, disk, places
from data_catalog.outage import Outage
from flows.doctor import answers, storage
from flows.doctor.findings import Asked
from flows.experiment import parse
from tests.flows.conftest import raw_experiment


def states(findings) -> dict[str, str]:
    return {each.name: each.state for each in findings}


def test_a_folder_that_cannot_be_written_to_fails(monkeypatch, tmp_path):
    def refuse(**given):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.tempfile, "NamedTemporaryFile", refuse)
    assert states(storage.folders(Asked({}))) == dict.fromkeys(("home", "store", "results"), "fail")


def test_a_folder_whose_files_come_from_another_clock_is_told(monkeypatch, tmp_path):
    now = time.time()
    monkeypatch.setattr(storage.time, "time", lambda: now - 900)
    found = states(storage.folders(Asked({"EVERGREEN_STORE": str(tmp_path)})))
    assert found["store"] == "ok" and found["clock of the file system of store"] == "fail"
    assert os.listdir(tmp_path) == []


def test_object_storage_is_written_to_once_and_left_empty():
    import fsspec

    found = states(storage.folders(Asked({"EVERGREEN_STORE": "memory://bucket/store"})))
    assert found["store"] == "ok"
    assert fsspec.filesystem("memory").find("/bucket") == []


def test_object_storage_that_writes_over_fails(monkeypatch):
    import fsspec

    memory = fsspec.get_filesystem_class("memory")
    monkeypatch.setattr(memory, "pipe_file", lambda self, path, value, mode: open_for(self, path, value))

    def open_for(store, path, value):
        with store.open(path, "wb") as file:
            file.write(value)

    assert states(storage.folders(Asked({"EVERGREEN_STORE": "memory://bucket/store"})))["store"] == "fail"


def test_object_storage_that_is_not_there_fails():
    assert states(storage.folders(Asked({"EVERGREEN_STORE": "nowhere://bucket/store"})))["store"] == "fail"


@pytest.mark.parametrize("free, state", [(10**8, "fail"), (15 * 10**8, "warn"), (10**10, "ok")])
def test_room_is_told_against_the_reserve(monkeypatch, free, state):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: free)
    assert states(storage.room(Asked({}))) == {"free disk": state}


def test_room_is_told_against_what_a_step_writes(monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 10**10)
    monkeypatch.setattr(storage, "_step_bytes", lambda asked: 10**11)
    (found,) = storage.room(Asked({}))
    assert found.state == "fail" and "100.0 GB for a step" in found.expected


def test_a_reserve_that_is_no_size_fails(monkeypatch):
    monkeypatch.setenv("EVERGREEN_DISK_RESERVE", "much")
    assert states(storage.room(Asked({}))) == {"free disk": "fail"}


def test_a_catalog_that_opens_is_fine_and_a_damaged_one_fails():
    catalog.record_decisions()
    assert states(storage.catalog(Asked({}))) == {"catalog": "ok"}
    places.catalog_path().write_bytes(b"no database" * 1000)
    (found,) = storage.catalog(Asked({}))
    assert found.state == "fail" and "evergreen catalog rebuild" in found.do


def test_a_shared_catalog_that_does_not_answer_fails(monkeypatch):
    def gone(sql):
        raise Outage("no PostgreSQL at host=x")

    monkeypatch.setattr(catalog, "query", gone)
    (found,) = storage.catalog(Asked({"EVERGREEN_CATALOG": "ducklake:postgres:dbname=lake host=x"}))
    assert found.state == "fail" and "no PostgreSQL" in found.found


def test_who_holds_the_catalog_is_told():
    catalog.record_decisions()
    script = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(places.catalog_path())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        (found,) = storage.catalog(Asked({}))
        process.communicate(b"")
    assert found.state == "warn" and f"PID {process.pid}" in found.found


def test_a_source_that_cannot_be_listed_fails(tmp_path):
    raw = raw_experiment()
    raw["sources"] += [
        {"kind": "image_folder", "name": "mine", "dataset": "MINE", "data": str(tmp_path / "absent")}
    ]  # fmt: skip
    found = list(storage.sources(Asked({}, parse(raw, "test"))))
    assert states(found) == {"source demo": "ok", "source mine": "fail"} and "mine" in found[1].do


def test_the_clock_of_object_storage_is_compared(monkeypatch):
    asked = Asked({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert states(storage.storage_clock(asked)) == {"object storage": "fail"}
    monkeypatch.setattr(storage, "ask", lambda url: answers.Answer(403, b"", -2000.0))
    (found,) = storage.storage_clock(asked)
    assert found.state == "fail" and found.found == "this machine is 2000 s ahead"
