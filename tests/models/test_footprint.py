"""What a step needs on the disk is known before it begins."""

import pytest
import torch

from data_catalog import disk, places, store
from data_catalog.disk import DiskFull
from models import train
from models.footprint import tensor_bytes
from models.updates import UpdateSpec
from models.updates.ewc import Ewc


def bytes_in(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def foretold(monkeypatch):
    """What each update said that it needs."""
    said = []
    monkeypatch.setattr(disk, "require_room", lambda *found: said.append(found))
    return said


def test_the_bytes_of_tensors_are_counted_however_deep_they_lie():
    nested = {"a": [torch.zeros(3), {"b": torch.zeros(2, dtype=torch.float64)}], "name": "text", "none": None}
    assert tensor_bytes(nested) == 3 * 4 + 2 * 8


@pytest.mark.parametrize("method", [{}, {"method": Ewc(fisher_samples=16)}], ids=["finetune", "ewc"])
def test_a_step_leaves_and_needs_no_more_than_was_foretold(tiny, step_plan, foretold, monkeypatch, method):
    sizes, save = [], train.SavedStates.save

    def saving(self, state, iteration):
        save(self, state, iteration)
        sizes.append(self.size())

    monkeypatch.setattr(train.SavedStates, "save", saving)
    before = bytes_in(places.store_root() / "objects")
    train.update(tiny, step_plan, UpdateSpec(**method), seed=0, save_every_iterations=1)
    ((needed, left, _, what),) = foretold
    grown = bytes_in(places.store_root() / "objects") - before
    merge = store.locate(tiny.digest).stat().st_size
    assert what == "the update of step 0"
    assert 0.7 * left < grown + merge < left + 50_000  # of the step's tables
    assert 0.7 * needed < max(sizes) * 3 / 2 + left < 1.1 * needed  # a file has a header per tensor


def test_a_step_without_room_is_refused_before_anything_is_written(tiny, step_plan, monkeypatch):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: disk.reserve() + 1000)
    before = sorted(places.store_root().rglob("*"))
    with pytest.raises(DiskFull, match=r"the update of step 0 needs about .* MB.*nothing was begun"):
        train.update(tiny, step_plan, UpdateSpec(), seed=0)
    assert sorted(places.store_root().rglob("*")) == before


def test_a_step_that_is_gone_on_with_needs_less(tiny, step_plan, foretold, monkeypatch):
    train.update(tiny, step_plan, UpdateSpec(), seed=0)
    monkeypatch.setattr(train.SavedStates, "size", lambda self: 1000)
    train.update(tiny, step_plan, UpdateSpec(), seed=0)
    assert foretold[0][0] - foretold[1][0] == 1000
