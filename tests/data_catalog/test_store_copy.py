"""A whole store moves into object storage and back, is never mixed with another, and takes up where it stopped."""

import os
from pathlib import Path

import fsspec
import pytest

from data_catalog import in_use, ledger, shared_files, store, store_copy
from data_catalog.outage import Outage
from data_catalog.places import results_root, store_root
from data_catalog.store_copy import Place, copy


@pytest.fixture
def bucket(object_store, tmp_path):
    """An empty bucket as a place for a store and results."""
    name = tmp_path.name.lower().replace("_", "-")
    fsspec.filesystem("s3").mkdir(name)
    return Place(f"s3://{name}/store", f"s3://{name}/results")


@pytest.fixture
def filled():
    """The digests of two artifacts, in a store with a ledger, a pointer and a result record."""
    made = [store.write_bytes(text, kind="test", of=text.decode()) for text in (b"one", b"two" * 1000)]
    ledger.extend("recorded", lambda found: [{"digest": digest} for digest in made])
    shared_files.write(store_root() / "experiments" / "tiny.ref", made[0].encode())
    shared_files.write(results_root() / "update-1", made[1].encode())
    return made


def be_at(place, monkeypatch, home):
    """Be a machine whose store is there, and which has seen nothing yet."""
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    monkeypatch.setenv("EVERGREEN_STORE", place.store)
    monkeypatch.setenv("EVERGREEN_RESULTS", place.results)


def held():
    """Everything that a store holds."""
    artifacts = {digest: (store.read_bytes(digest), store.origins(digest)) for digest in store.stored_digests()}
    kept = shared_files.read(store_root() / "experiments/tiny.ref"), shared_files.read(results_root() / "update-1")
    return artifacts, {name: ledger.entries(name) for name in ledger.names()}, kept


def test_a_store_moves_into_a_bucket_and_back(filled, bucket, monkeypatch, tmp_path):
    before, environment = held(), dict(os.environ)
    done = copy(bucket)
    assert (done.artifacts, done.size, done.ledgers, done.results) == (2, 3003, {"recorded": 2}, 1)
    assert dict(os.environ) == environment
    be_at(bucket, monkeypatch, tmp_path / "second")
    assert held() == before
    back = Place(str(tmp_path / "back/store"), str(tmp_path / "back/results"))
    copy(back)
    be_at(back, monkeypatch, tmp_path / "third")
    assert held() == before


def test_a_copy_that_was_interrupted_is_finished_by_the_next(filled, bucket, monkeypatch, tmp_path):
    adopt = store.adopt

    def stopped(digest, *given):
        if digest == max(filled):
            raise KeyboardInterrupt
        adopt(digest, *given)

    before = held()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "adopt", stopped)
        copy(bucket)
    copy(bucket)
    ledger.extend("recorded", lambda found: [{"digest": "later"}])
    assert copy(bucket).ledgers == {"recorded": 3}  # what came since is added
    be_at(bucket, monkeypatch, tmp_path / "second")
    artifacts, ledgers, kept = held()
    assert (artifacts, kept) == (before[0], before[2]) and ledgers["recorded"][2:] == [{"digest": "later"}]


@pytest.mark.parametrize("entries", [[{"digest": "other"}], [{"digest": "other"}] * 3])
def test_a_store_with_another_life_is_left_alone(entries, filled, tmp_path, monkeypatch):
    other = Place(str(tmp_path / "other"), str(tmp_path / "other-results"))
    with monkeypatch.context() as patch:
        be_at(other, patch, tmp_path / "second")
        ledger.extend("recorded", lambda found: entries)
    with pytest.raises(ValueError, match=r"the ledger recorded of .*other has other entries"):
        copy(other)
    assert not (tmp_path / "other/objects").exists()


def test_a_store_that_went_on_is_not_set_back(filled, tmp_path, monkeypatch):
    other = Place(str(tmp_path / "other"), str(tmp_path / "other-results"))
    copy(other)
    with monkeypatch.context() as patch:
        be_at(other, patch, tmp_path / "second")
        ledger.extend("recorded", lambda found: [{"digest": "later"}])
    with pytest.raises(ValueError, match="or go on there"):
        copy(other)


def test_damaged_artifacts_are_named_and_the_others_copied(filled, tmp_path):
    store.path_of(filled[0]).write_bytes(b"damaged")
    done = copy(Place(str(tmp_path / "other")))
    assert done.artifacts == 1 and done.results is None and filled[0][:19] in done.lost[0]
    assert [path.name for path in Path(done.target, "objects").glob("*/*")] == [filled[1][7:]]


def test_nothing_is_copied_beside_runs_or_onto_itself(filled, tmp_path):
    with in_use.in_use(), pytest.raises(Outage, match="runs are at work"):
        copy(Place(str(tmp_path / "other")))
    with pytest.raises(ValueError, match="is where the store or its results are"):
        copy(Place(str(store_root())))


def test_progress_ends_with_everything(filled, tmp_path, monkeypatch):
    monkeypatch.setattr(store_copy, "BATCH", 1)
    told = []
    copy(Place(str(tmp_path / "other")), lambda *report: told.append(report))
    assert told == [("artifacts", 0.5), ("artifacts", 1.0)]
