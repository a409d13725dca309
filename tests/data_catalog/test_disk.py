"""A disk that is full, or will be: said in one line, with nothing half-written."""

import subprocess
import sys

import pytest

from data_catalog import disk, ledger, places, store
from data_catalog.disk import DiskFull, require_room

SMALL = "import resource, os\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
WRITERS = {
    "bytes": "from data_catalog import store; store.write_bytes(os.urandom(9000))",
    "table": "import pyarrow as pa; from data_catalog import store; store.write_table(pa.table({'a': range(9000)}))",
    "checkpoint": "import torch; from models.checkpoints import save; save({'w': torch.rand(9000)}, 'none')",
    "state": "import torch; from models import unfinished as u; u.SavedStates('k').save({'w': torch.rand(9000)}, 1)",
    "entry": "from data_catalog import ledger; ledger.extend('book', lambda past: [{'text': 'x' * 9000}])",
    "catalog": "from data_catalog import catalog; catalog.record_decisions()",
}


def files():
    """What lies in the store, locks aside."""
    return sorted(str(p) for p in places.store_root().rglob("*") if p.is_file() and p.suffix != ".lock")


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_said_and_nothing_is_half_written(what):
    store.write_bytes(b"there")
    ledger.extend("book", lambda past: [{"text": "there"}])
    before, entries = files(), ledger.path_of("book").read_bytes()
    done = subprocess.run([sys.executable, "-c", SMALL + WRITERS[what]], capture_output=True, text=True)
    assert "DiskFull: no room is left" in done.stderr and "evergreen gc" in done.stderr
    assert files() == before and ledger.path_of("book").read_bytes() == entries
    subprocess.run([sys.executable, "-c", "import os\n" + WRITERS[what]], check=True)  # with room again


def test_an_error_that_is_not_about_room_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), disk.room_in(tmp_path):
        (tmp_path / "none").read_bytes()


def test_a_step_that_does_not_fit_beside_the_reserve_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 5 * 10**9)
    monkeypatch.setenv("EVERGREEN_DISK_RESERVE", "2 GB")
    require_room(3 * 10**9, 10**9, tmp_path, "step 4")
    with pytest.raises(DiskFull, match=r"step 4 needs about 3\.1 GB, but 5\.0 GB are free .* of which 2\.0 GB stay"):
        require_room(31 * 10**8, 10**9, tmp_path, "step 4")


def test_room_for_few_more_steps_is_warned_of(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 10 * 10**9)
    require_room(10**9, 10**9, tmp_path, "step 4")
    assert caplog.text == ""
    require_room(10**9, 3 * 10**9, tmp_path, "step 4")
    assert "room for step 4 and 2 more like it, each of which leaves 3.0 GB" in caplog.text


@pytest.mark.parametrize(
    "given, size", [("0", 0), ("500 MB", 5 * 10**8), ("1.5tb", 15 * 10**11), (" 20 GB ", 2 * 10**10)]
)
def test_the_reserve_is_given_in_any_unit(monkeypatch, given, size):
    monkeypatch.setenv("EVERGREEN_DISK_RESERVE", given)
    assert disk.reserve() == size


@pytest.mark.parametrize("given", ["", "much", "-1 GB", "5 PB"])
def test_a_reserve_that_is_none_is_refused(monkeypatch, given):
    monkeypatch.setenv("EVERGREEN_DISK_RESERVE", given)
    with pytest.raises(ValueError, match="expected bytes such as"):
        disk.reserve()


def test_room_is_that_of_the_disk_a_folder_will_be_on(tmp_path):
    assert disk.free_bytes(tmp_path / "not" / "yet") > 0
