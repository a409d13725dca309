import pytest
import torch

from data_catalog.store import write_bytes
from models.checkpoints import load, save
from models.merging.linear import Linear
from models.merging.temporal import History, MergeSpec, merge


@pytest.fixture
def checkpoints():
    backbone = write_bytes(b"{}")
    return [
        save({"w": torch.full((4,), float(value)), "s": torch.tensor(float(value))}, backbone) for value in range(4)
    ]


def test_a_running_merge_equals_its_closed_form(checkpoints):
    technique = Linear(weights=(0.25, 0.75))
    history = History.start(checkpoints[0])
    for expert in checkpoints[1:]:
        history = history.with_expert(expert, merge(history.pretrained, [expert, history.running], technique))
    expected = 0.25 * 3 + 0.75 * 0.25 * 2 + 0.75**2 * 0.25 * 1 + 0.75**3 * 0
    assert load(history.running)["w"].tolist() == pytest.approx([expected] * 4)


def test_anchors_name_pretrained_expert_and_running(checkpoints):
    history = History.start(checkpoints[0]).with_expert(checkpoints[1], checkpoints[2])
    assert [history.pick(anchor) for anchor in ("zs", "ft", "ema")] == checkpoints[:3]


def test_merging_leaves_its_inputs_alone(checkpoints):
    before = load(checkpoints[0])["w"].clone()
    merge(checkpoints[0], checkpoints[:2], Linear())
    assert torch.equal(load(checkpoints[0])["w"], before)


def test_plain_finetuning_needs_no_running_merge():
    assert not MergeSpec().needs_running and MergeSpec(deploy="ema").needs_running
