"""What is being written is not there yet; wrong clocks and empty places have an outcome."""

import io
import json
import os
import time
from types import SimpleNamespace

import pytest
from PIL import Image

from data_catalog import settling
from data_catalog.file_stats import FileStat
from data_catalog.places import home
from data_catalog.settling import Settle
from data_catalog.sources.image_folder import ImageFolder
from data_catalog.sources.manifest import Manifest
from data_catalog.sources.webdataset import WebDataset

SECOND = 1_000_000_000


def inbox(place, **rule):
    return ImageFolder(name="inbox", data=str(place), dataset="INBOX", settle=Settle(**rule))


def picture(value):
    Image.new("RGB", (8, 8), (value % 256, 0, 0)).save(buffer := io.BytesIO(), format="PNG")
    return buffer.getvalue()


def there(source):
    return [name for listing in source.listings() for name in listing.files]


def clock_at(monkeypatch, seconds):
    now = time.time_ns() + int(seconds * SECOND)
    monkeypatch.setattr(settling, "time", SimpleNamespace(time_ns=lambda: now))


@pytest.fixture
def folder(tmp_path):
    """Two batches of a class."""
    for name in ("cat/monday/1.png", "cat/monday/2.png", "cat/tuesday/1.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(len(name)))
    return tmp_path / "in"


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_a_folder_is_there_once_its_marker_is(scheme, stores):
    contents = {name: picture(i) for i, name in enumerate(("cat/a/1.png", "cat/a/deep/2.png", "cat/b/3.png"))}
    place = stores[scheme](contents | {"cat/a/_SUCCESS": b""})
    assert there(inbox(place, marker="_SUCCESS")) == ["cat/a/1.png", "cat/a/deep/2.png"]


def test_a_marker_in_the_root_vouches_for_all(folder):
    assert there(inbox(folder, marker="done")) == []
    (folder / "done").touch()
    assert len(there(inbox(folder, marker="done"))) == 3


def test_what_changed_after_the_marker_waits_until_it_is_written_again(folder):
    (marker := folder / "cat/monday/done").touch()
    time.sleep(0.02)  # longer than a tick of the file system's clock
    (late := folder / "cat/monday/1.png").write_bytes(picture(7))
    source = inbox(folder, marker="done")
    assert there(source) == ["cat/monday/2.png"]
    assert source.settled().waiting["cat/monday/1.png"] == "changed after their done was written"
    late.chmod(0o600)
    marker.touch()
    assert "cat/monday/1.png" in there(source)


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_a_file_is_there_once_it_kept_still(scheme, stores, monkeypatch):
    source = inbox(stores[scheme]({"cat/1.png": picture(1)}), quiet_seconds=60)
    assert there(source) == []
    clock_at(monkeypatch, 100)
    assert there(source) == ["cat/1.png"]


def test_a_copy_with_an_old_date_is_as_young_as_its_copying(folder):
    for path in folder.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    assert there(inbox(folder, quiet_seconds=60)) == []


def test_a_date_in_the_future_does_not_hold_a_file_up(folder, monkeypatch):
    for path in folder.rglob("*.png"):
        os.utime(path, (4e9, 4e9))
    clock_at(monkeypatch, 100)
    assert len(there(inbox(folder, quiet_seconds=60))) == 3


def test_after_the_clock_went_back_files_count_once_seen_unchanged_for_long_enough(folder, monkeypatch):
    source = inbox(folder, quiet_seconds=60)
    clock_at(monkeypatch, -3600)
    assert there(source) == [] and "ahead of the clock" in next(iter(source.settled().waiting.values()))
    clock_at(monkeypatch, -3600 + 61)
    assert len(there(source)) == 3


def test_a_file_ahead_of_the_clock_that_changes_waits_anew(folder, monkeypatch):
    source, changing = inbox(folder, quiet_seconds=60), folder / "cat/tuesday/1.png"
    clock_at(monkeypatch, -3600)
    assert there(source) == []
    changing.write_bytes(changing.read_bytes() + b"more")
    clock_at(monkeypatch, -3600 + 61)
    assert there(source) == ["cat/monday/1.png", "cat/monday/2.png"]


def test_a_clock_that_went_back_again_starts_the_wait_anew(folder, monkeypatch):
    source = inbox(folder, quiet_seconds=60)
    for seconds in (-3600, -7200, -7200 + 59):
        clock_at(monkeypatch, seconds)
        assert there(source) == []
    clock_at(monkeypatch, -7200 + 60)
    assert len(there(source)) == 3


def test_a_store_that_tells_no_time_is_watched(monkeypatch):
    def look():  # its version is another at every look
        stat = FileStat(10, f"10-{time.time_ns()}", time.time_ns(), None, None)
        return settling.settled({"a.tar": stat}, Settle(quiet_seconds=60), {}, "web").there

    assert not look()
    clock_at(monkeypatch, 61)
    assert look()


def test_a_damaged_memory_of_what_was_seen_starts_the_wait_anew(folder, monkeypatch):
    source = inbox(folder, quiet_seconds=60)
    clock_at(monkeypatch, -3600)
    there(source)
    path = home() / "settling" / "inbox.json"
    assert set(json.loads(path.read_text())) == set(source.settled().waiting)
    path.write_text("{")
    clock_at(monkeypatch, -3600 + 61)
    assert there(source) == []


def test_marker_and_quiet_time_both_hold(folder, monkeypatch):
    (folder / "cat/monday/done").touch()
    source = inbox(folder, marker="done", quiet_seconds=60)
    assert there(source) == []
    clock_at(monkeypatch, 100)
    assert there(source) == ["cat/monday/1.png", "cat/monday/2.png"]


def test_nothing_yet_is_no_dataset_where_data_arrives_and_an_error_elsewhere(tmp_path):
    assert inbox(tmp_path).listings() == []
    with pytest.raises(ValueError, match="no image lies below"):
        ImageFolder(name="inbox", data=str(tmp_path), dataset="INBOX").listings()


def test_a_place_that_lost_everything_it_held_is_an_error(folder, tmp_path):
    source = inbox(folder)
    source.scan()
    folder.rename(tmp_path / "unmounted")
    with pytest.raises(ValueError, match="held 3 samples of INBOX, and now no image lies"):
        source.scan()


def test_a_tar_and_a_table_that_are_being_written_are_not_opened(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"half")
    (tmp_path / "list.csv").write_text("path\nx")
    rule = Settle(quiet_seconds=60)
    assert WebDataset(name="w", data=str(tmp_path), dataset="W", settle=rule).scan() == []
    assert Manifest(name="m", data=str(tmp_path), dataset="M", manifest="*.csv", settle=rule).scan() == []


def test_a_marker_is_not_looked_for_on_a_web_server():
    with pytest.raises(ValueError, match="use `quiet_seconds` alone"):
        settling.find_markers(Settle(marker="done"), "http://127.0.0.1/x")


def test_a_hidden_marker_is_refused_since_hidden_files_are_not_seen():
    with pytest.raises(ValueError, match="marker"):
        Settle(marker=".done")


def test_the_rule_is_no_part_of_what_the_data_is(folder, monkeypatch):
    before = inbox(folder).scan()
    clock_at(monkeypatch, 100)
    assert inbox(folder, quiet_seconds=5).scan() == before
