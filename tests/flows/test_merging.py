"""What the rules of init and deploy merge, without Prefect: the tasks are the plain functions they carry."""

import pytest
import torch

from data_catalog.store import write_bytes
from flows import merging
from models.checkpoints import load, save
from models.merging import temporal
from models.merging.linear import Linear
from models.merging.random import Random
from models.merging.temporal import History, MergeSpec

DEPLOYED = {  # after three experts of 1, 10, 100 on weights of 0, by plain means
    ("zs", None): 0,
    ("ft", False): 100,
    ("ft", True): 50,
    ("ema", True): 100 / 2 + 10 / 4 + 1 / 8,
    ("ema", None): 100 / 2 + 10 / 4 + 1 / 8,
    ("ema", False): 100 / 2 + 10 / 4 + 1 / 4,
    ("all", False): 37,
    ("all", True): 111 / 4,
}


@pytest.fixture
def merges(monkeypatch):
    """The merges that were done, each once as the cache would have it."""
    done = {}

    def merge_weights(base, picks, technique, recipe, step, seed=0, newest=-1, statistics=None):
        key = (tuple(pick.digest for pick in picks), technique, seed, newest)
        if key not in done:
            done[key] = temporal.merge(base, picks, technique, seed, newest, statistics or ())
        return done[key]

    monkeypatch.setattr(merging, "merge_weights", merge_weights)
    return done


@pytest.fixture
def checkpoints():
    backbone = write_bytes(b"{}")
    return [
        save({"w": torch.full((4,), value), "n": torch.tensor(value)}, backbone) for value in (0.0, 1.0, 10.0, 100.0)
    ]


def lived(spec, checkpoints):
    history = History.start(checkpoints[0])
    for step, expert in enumerate(checkpoints[1:]):
        history = merging.advanced(history, spec, expert, 0, "recipe", step)
    return history


@pytest.mark.parametrize(("rule", "expected"), DEPLOYED.items(), ids=str)
def test_every_anchor_gives_its_merge(merges, checkpoints, rule, expected):
    anchor, include_zs = rule
    spec = MergeSpec(init="zs", deploy=anchor, include_zs=include_zs, technique=Linear())
    deployed = merging.picked(lived(spec, checkpoints), spec, anchor, 0, "recipe", 2)
    assert load(deployed)["w"].tolist() == pytest.approx([expected] * 4)


@pytest.mark.parametrize("anchor", ["ft", "ema", "all"])
def test_what_is_deployed_is_what_the_next_step_starts_from_by_the_same_rule(merges, checkpoints, anchor):
    spec = MergeSpec(init=anchor, deploy=anchor, include_zs=True, technique=Random())
    history = lived(spec, checkpoints)
    deployed = merging.picked(history, spec, spec.deploy, 0, "recipe", 2)
    count = len(merges)
    assert merging.picked(history, spec, spec.init, 0, "recipe", 3) == deployed and len(merges) == count


def test_a_step_of_a_running_merge_merges_once(merges, checkpoints):
    lived(MergeSpec(preset="best-in-time", technique=Linear()), checkpoints)
    assert len(merges) == 3


def test_one_expert_is_deployed_unmerged(merges, checkpoints):
    spec = MergeSpec(preset="double-merge-zs-ema", technique=Linear())
    history = lived(spec, checkpoints[:2])
    assert merging.picked(history, spec, "ema", 0, "recipe", 0) == checkpoints[1] and not merges


def test_what_is_drawn_differs_from_step_to_step_and_from_seed_to_seed(merges, checkpoints):
    spec = MergeSpec(preset="best-in-time", technique=Random())
    lived(spec, checkpoints)
    merging.advanced(History.start(checkpoints[0]), spec, checkpoints[1], 1, "recipe", 0)
    assert len({key[2] for key in merges}) == 4


@pytest.mark.parametrize(
    ("rule", "merged"),
    [
        ({"preset": "finetune"}, 0),
        ({"preset": "best-in-time"}, 2),
        ({"preset": "offline-merge"}, 3),
        ({"preset": "ft-merge"}, 2),
        ({"preset": "double-merge-ema-all"}, 5),
    ],
)
def test_the_ledger_counts_what_enters_the_merges_of_a_step(merges, checkpoints, rule, merged):
    spec = MergeSpec(technique=Linear(), **rule)
    assert merging.merged_per_step(spec, lived(spec, checkpoints)) == merged
