import pytest
import torch

from data_catalog.store import origins, write_bytes
from models.checkpoints import load, save
from models.merging.dare_linear import DareLinear
from models.merging.dare_ties import DareTies
from models.merging.linear import Linear
from models.merging.model_stock import ModelStock
from models.merging.presets import PRESETS
from models.merging.random import Random
from models.merging.slerp import Slerp
from models.merging.task_arithmetic import TaskArithmetic
from models.merging.temporal import History, MergeSpec, merge, pair
from models.merging.ties import Ties


@pytest.fixture
def checkpoints():
    backbone = write_bytes(b"{}")
    return [
        save({"w": torch.full((4,), float(value)), "s": torch.tensor(float(value)), "n": torch.tensor(value)}, backbone)
        for value in range(4)
    ]


def test_a_running_merge_equals_its_closed_form(checkpoints):
    technique = Linear(weights=(0.25, 0.75))
    history = History.start(checkpoints[0])
    for expert in checkpoints[1:]:
        picks, newest = pair(technique, expert, history.before(include_zs=True))
        history = history.with_expert(expert, merge(history.pretrained, picks, technique, newest=newest))
    expected = 0.25 * 3 + 0.75 * 0.25 * 2 + 0.75**2 * 0.25 * 1 + 0.75**3 * 0
    assert load(history.running)["w"].tolist() == pytest.approx([expected] * 4)
    assert load(history.running)["n"].item() == 3


def test_anchors_name_pretrained_latest_running_and_all(checkpoints):
    zs, first, second, running = checkpoints
    history = History.start(zs).with_expert(first).with_expert(second, running)
    assert [history.members(anchor, False) for anchor in ("zs", "ft", "ema", "all")] == [
        (zs,), (second,), (running,), (first, second),
    ]  # fmt: skip
    assert history.members("ft", True) == (zs, second) and history.members("all", True) == (zs, first, second)


@pytest.mark.parametrize("anchor", ["zs", "ft", "ema", "all"])
@pytest.mark.parametrize("include_zs", [True, False])
def test_before_the_first_step_all_anchors_are_the_pretrained_weights(checkpoints, anchor, include_zs):
    assert History.start(checkpoints[0]).members(anchor, include_zs) == (checkpoints[0],)


def test_without_the_pretrained_weights_the_first_expert_is_the_running_merge(checkpoints):
    history = History.start(checkpoints[0])
    assert history.before(include_zs=False) is None and history.before(include_zs=True) == checkpoints[0]


def test_numbers_are_expert_and_old_schemes_go_from_old_to_new(checkpoints):
    old, expert = checkpoints[:2]
    assert pair(Linear(weights=(0.1, 0.9)), expert, old) == ([expert, old], 0)
    assert pair(Linear(weights="linear"), expert, old) == ([old, expert], 1)


def test_merging_leaves_its_inputs_alone_and_says_how_it_came_to_be(checkpoints):
    before = load(checkpoints[0])["w"].clone()
    merged = merge(checkpoints[0], checkpoints[1:3], Random(), seed=4)
    assert torch.equal(load(checkpoints[0])["w"], before)
    (origin,) = origins(merged.digest)
    assert origin["technique"]["kind"] == "random" and origin["seed"] == 4 and len(origin["parents"]["picks"]) == 2


def test_plain_finetuning_needs_no_running_merge():
    assert not MergeSpec().needs_running and MergeSpec(deploy="ema").needs_running


def test_presets_are_published_choices_that_single_fields_may_differ_from():
    assert MergeSpec(preset="zs-merge") == MergeSpec(preset="zs-merge", init="zs", deploy="ema", include_zs=True)
    assert MergeSpec(preset="zs-merge", init="ema").init == "ema"
    for name in PRESETS:
        MergeSpec(preset=name, technique=Ties())
    with pytest.raises(ValueError, match="best-in-time"):
        MergeSpec(preset="best")


@pytest.mark.parametrize("fields", [{"deploy": "all"}, {"init": "all"}])
def test_merging_all_takes_no_fixed_number_of_weights(fields):
    with pytest.raises(ValueError, match="growing number"):
        MergeSpec(technique=Linear(weights=(0.1, 0.9)), **fields)
    MergeSpec(technique=Linear(weights="exp"), **fields)


def test_a_running_merge_takes_two_weights():
    with pytest.raises(ValueError, match="expected two"):
        MergeSpec(deploy="ema", technique=Linear(weights=(0.2, 0.3, 0.5)))


@pytest.mark.parametrize(
    ("init", "technique", "grows"),
    [
        ("ema", TaskArithmetic(scale=1), True),
        ("ema", TaskArithmetic(scale=0.51), True),
        ("ema", TaskArithmetic(scale=0.5), False),
        ("ema", Linear(), False),
        ("ema", Ties(density=0.2), False),
        ("ema", Ties(agreeing="sum"), True),
        ("zs", TaskArithmetic(scale=1), True),
        ("zs", TaskArithmetic(scale=0.9), False),
        ("ema", DareLinear(density=0.3, scale=0.5), True),
        ("ema", DareTies(density=1), False),
    ],
)
def test_a_rule_under_which_weights_grow_without_bound_is_found(init, technique, grows):
    assert (MergeSpec(init=init, deploy="ema", technique=technique).growth() is not None) == grows


@pytest.mark.parametrize(
    "technique",
    [*(TaskArithmetic(scale=scale) for scale in (0.1, 0.5, 1.0)), DareTies(density=0.3),
     DareLinear(density=0.3, scale=0.1)],
)  # fmt: skip
def test_the_norm_really_grows_where_it_is_said_to(technique):
    base = {"w": torch.zeros(2000, dtype=torch.float64)}
    spec, running, lengths = MergeSpec(init="ema", deploy="ema", technique=technique), base, []
    for step in range(60):
        expert = {"w": running["w"] + 0.1}  # every step learns as much again
        running = technique.merge(base, [expert, running], seed=step)
        lengths.append(running["w"].norm().item())
    assert (lengths[-1] > 1000 * lengths[0]) == (spec.growth() is not None)


@pytest.mark.parametrize(
    ("fields", "grows"),
    [
        ({"preset": "ft-merge", "technique": TaskArithmetic(scale=1.5)}, True),
        ({"preset": "ft-merge", "technique": TaskArithmetic(scale=1)}, False),
        ({"preset": "ft-merge", "technique": TaskArithmetic(scale=1, weights=(0.9, 0.1))}, True),
        ({"preset": "double-merge-all-all", "technique": TaskArithmetic(scale=0.3)}, True),
        ({"preset": "double-merge-all-all", "technique": Ties()}, False),
        ({"preset": "zs-merge", "technique": Ties(weights=(0.1, 0.9))}, False),
        ({"preset": "offline-merge", "technique": TaskArithmetic(scale=3)}, False),
        ({"preset": "double-merge-ft-ema", "technique": TaskArithmetic(scale=1)}, True),
    ],
)
def test_growth_is_found_under_every_rule(fields, grows):
    assert (MergeSpec(**fields).growth() is not None) == grows


@pytest.mark.parametrize("technique", [Slerp(), ModelStock(paper=True)])
def test_a_technique_of_two_cannot_merge_all(technique):
    with pytest.raises(ValueError, match="merges 2 experts, but init or deploy merges all"):
        MergeSpec(init="zs", deploy="all", technique=technique)
