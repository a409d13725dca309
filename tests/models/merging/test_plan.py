"""What the plan of a merge says, and refuses, before anything is merged."""

import pytest
import torch
from safetensors.torch import save_file

from models.merging.dare_linear import DareLinear
from models.merging.linear import Linear
from models.merging.lines import Lines
from models.merging.model_stock import ModelStock
from models.merging.opened import open_weights
from models.merging.plan import plan
from models.merging.slerp import Slerp
from models.merging.task_arithmetic import TaskArithmetic
from models.merging.ties import Ties

TOWERS = {"visual.blocks.0.w": torch.zeros(3), "visual.blocks.1.w": torch.zeros(3), "logit_scale": torch.tensor(1.0)}


@pytest.fixture
def opened(tmp_path):
    """Writes weights into a file and opens it."""

    def write(name, weights):
        save_file(weights, tmp_path / f"{name}.safetensors")
        return open_weights(str(tmp_path / f"{name}.safetensors"))

    return write


def planned(technique, opened, count, weights=TOWERS, **options):
    base, *experts = (opened(str(number), weights) for number in range(count + 1))
    return plan(technique, base, experts, **options)


@pytest.mark.parametrize("technique", [ModelStock(paper=True), Slerp()], ids=lambda each: each.kind)
def test_a_number_of_experts_that_the_merge_refuses_is_refused(opened, technique):
    planned(technique, opened, 2)
    with pytest.raises(ValueError, match=r"merges 2 experts.*found 3"):
        planned(technique, opened, 3)


def test_a_device_that_is_not_there_is_refused(opened, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for device in ("cuda", "gpu"):
        with pytest.raises(ValueError, match=f"`device` is {device}, expected cpu$"):
            planned(Linear(), opened, 2, device=device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    planned(Linear(), opened, 2, device="cuda")


def test_the_blocks_that_lines_reaches_are_counted(opened):
    text = {f"transformer.resblocks.{i}.w": torch.zeros(2) for i in range(3)}
    found = planned(TaskArithmetic(lines=Lines()), opened, 2, TOWERS | text)
    assert (
        "`lines` gives lengths to 3 blocks of the text tower and 2 blocks of the image tower; its `alpha` to all else"
        in found.warnings
    )
    assert not any("lines" in warning for warning in planned(TaskArithmetic(), opened, 2, TOWERS | text).warnings)


@pytest.mark.parametrize(
    "technique", [TaskArithmetic(lines=Lines()), Linear(lines=Lines())], ids=lambda each: each.kind
)
def test_lines_without_any_names_of_blocks_is_refused(opened, technique):
    odd = {"backbone.layers.0.w": torch.zeros(2), "backbone.layers.1.w": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"no names of blocks are found: there are 'backbone\.layers\.0\.w'"):
        planned(technique, opened, 2, odd)
    assert "no blocks of the text tower" in " ".join(planned(technique, opened, 2, TOWERS | odd).warnings)


def test_tied_tensors_are_listed_where_random_numbers_are_drawn(opened):
    tied = TOWERS | {"token.w": torch.arange(6.0), "head.w": torch.arange(6.0)}
    assert "equal tensors share random numbers: 'token.w' those of 'head.w'" in " ".join(
        planned(DareLinear(), opened, 2, tied).warnings
    )
    assert not any("share" in warning for warning in planned(Ties(), opened, 2, tied).warnings)


def test_memory_grows_with_the_experts_where_thresholds_are_looked_for(opened):
    def grown(technique, weights):
        peaks = [planned(technique, opened, count, weights).expected_peak_megabytes for count in (4, 24)]
        return (peaks[1] - peaks[0]) / 20

    both = {"visual.w": torch.zeros(10), "text.w": torch.zeros(10)}
    assert grown(Ties(), both) == pytest.approx(2 * 65_536 * 8 / 1e6, rel=0.01)
    assert grown(TaskArithmetic(), both) == pytest.approx(0, abs=1e-3)
