"""Housekeeping of a store in object storage: what goes, goes there, and never beside a run on any machine."""

import os

import fsspec
import pytest

from data_catalog import in_use, presence, promotions, shared_files, store
from data_catalog.object_storage import ObjectStorage
from data_catalog.outage import Outage
from data_catalog.places import results_root
from data_catalog.retention import KeepSpec, Period
from models import clip, living
from models.housekeeping import keep_house
from models.unfinished import SavedStates
from tests.models.lives import STREAM, enter, finish_step

DAY = 86400


@pytest.fixture
def url(object_store, tmp_path, monkeypatch):
    """A store and results in a fresh bucket."""
    bucket = tmp_path.name.lower().replace("_", "-")
    fsspec.filesystem("s3").mkdir(bucket)
    monkeypatch.setenv("EVERGREEN_STORE", f"s3://{bucket}/store")
    monkeypatch.setenv("EVERGREEN_RESULTS", f"s3://{bucket}/results")
    return os.environ["EVERGREEN_STORE"]


@pytest.fixture
def later(monkeypatch):
    """Let days pass by the clock of the service."""
    clock = store.clock
    return lambda days: monkeypatch.setattr(store, "clock", lambda: clock() + days * DAY)


def names(url):
    return sorted(path.split("/", 1)[1] for path in fsspec.filesystem("s3").find(url.rpartition("/")[0]))


def test_what_nothing_names_goes_for_every_machine(url, later, monkeypatch, tmp_path):
    digest = store.write_bytes(b"plan", stage="test")
    shared_files.write(results_root() / "stage-1", digest.encode())
    SavedStates("key").save({"iteration": 1}, 1)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
    later(days=40)
    assert len(keep_house({}, dry_run=True).going) == 2 and store.is_intact(digest)
    done = keep_house({})
    assert sorted(item.what for item in done.going) == ["test", "unfinished update"] and done.freed > 0
    assert names(url) == ["store/running/clock"]


def test_what_is_young_stays(url):
    digest = store.write_bytes(b"plan", stage="test")
    assert keep_house({}).going == () and store.is_intact(digest)


def test_weights_that_go_leave_how_they_came_to_be(url, later):
    digest = store.write_bytes(b"weights", backbone="b")
    later(days=40)
    keep_house({})
    assert not store.is_intact(digest) and store.origins(digest)[0]["backbone"] == "b"


def test_nothing_goes_while_a_run_is_at_work_on_another_machine(url, later, monkeypatch, tmp_path):
    later(days=40)
    with in_use.in_use():
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
        store.write_bytes(b"plan")
        with pytest.raises(Outage, match="runs are at work on s3://"):
            keep_house({})
        assert len(keep_house({}, dry_run=True).going) == 1
    assert len(keep_house({}).going) == 1


def test_a_killed_run_holds_nothing_up_for_ever(url, later, monkeypatch):
    store.write_bytes(b"plan")
    fsspec.filesystem("s3").pipe_file(f"{url}/running/killed", b"{}")
    monkeypatch.setattr(presence, "GONE_SECONDS", -1.0)
    later(days=40)
    assert len(keep_house({}).going) == 1


def test_two_housekeepings_do_not_meet(url, monkeypatch, tmp_path):
    with presence.sole_housekeeping():
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
        with pytest.raises(Outage, match="another `evergreen gc` is at work"):
            keep_house({})


def test_an_answer_that_got_lost_is_not_another_housekeeping(url, monkeypatch):
    create = ObjectStorage.create
    monkeypatch.setattr(ObjectStorage, "create", lambda *given: create(*given) and create(*given))  # asked again
    with presence.sole_housekeeping() as elsewhere:
        assert elsewhere == []


def test_a_run_waits_for_housekeeping_elsewhere(url, monkeypatch):
    waited = []
    with presence.sole_housekeeping():

        def end(seconds):
            waited.append(seconds)
            fsspec.filesystem("s3").rm(f"{url}/running/housekeeping")

        monkeypatch.setattr(presence.time, "sleep", end)
        with presence.at_work():
            assert waited


def test_what_is_live_stays_and_what_its_rule_lets_go_goes(url, later, tiny_folder, monkeypatch, tmp_path):
    first, *weights = (clip.initialise(str(tiny_folder), seed) for seed in range(5))
    enter("start", first)
    for number in range(2):
        finish_step(weights[2 * number], weights[2 * number + 1])
        enter("promote", weights[2 * number], step=number)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "elsewhere"))
    later(days=40)
    rules = KeepSpec(champions=Period(newest=1), experts=Period(newest=1))
    done = keep_house({STREAM: rules})
    there = set(store.stored_digests())
    assert promotions.live(STREAM).checkpoint in there and living.step_at(STREAM, 1).candidate.digest in there
    assert done.going and not there & {item.name for item in done.going}
