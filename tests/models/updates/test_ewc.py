import pytest
import torch
from torch import nn

from models import train
from models.checkpoints import load
from models.minibatch import Minibatch
from models.phases import IMPORTANCE, TRAINING, counting
from models.updates import UpdateSpec, memory
from models.updates.carried import Carried, Given, Passes
from models.updates.ewc import Ewc
from models.updates.memory import Memory


class _Line(nn.Module):
    """Loss of a batch: the mean of the outputs."""

    def __init__(self):
        super().__init__()
        self.w, self.unused = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.ones(3))


def _passes(model):
    def gradients(batch):
        loss = (batch.images @ model.w[:, None]).mean()  # a product that is counted
        found = torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)
        return dict(zip(dict(model.named_parameters()), found, strict=True))

    return Passes(lambda count: iter((BATCHES * count)[:count]), gradients)


BATCHES = [
    Minibatch(torch.tensor(rows), torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2), 0)
    for rows in ([[1.0, 0.0], [3.0, 2.0]], [[0.0, 0.0], [2.0, -4.0]])
]


def test_importance_is_the_mean_of_the_squared_gradients_of_batches():
    fisher = Ewc(fisher_samples=3).remember(line := _Line(), Carried(), _passes(line))["fisher"]
    assert fisher["w"].tolist() == [(2.0**2 + 1.0**2) / 2, (1.0**2 + 2.0**2) / 2]
    assert fisher["unused"].tolist() == [0, 0, 0]


def test_former_importance_is_kept_by_gamma():
    former = {"w": torch.tensor([8.0, 4.0]), "unused": torch.ones(3)}
    carried = Carried(fixed={"fisher": former, "anchor": {}})
    fisher = Ewc(fisher_samples=4, gamma=0.5).remember(line := _Line(), carried, _passes(line))["fisher"]
    assert fisher["w"].tolist() == [2.5 + 4.0, 2.5 + 2.0]
    assert former["w"].tolist() == [8.0, 4.0]


def test_the_passes_see_the_samples_asked_for():
    assert Ewc().passes(512) == 98  # as in the paper's accounting


def test_the_passes_are_priced_as_such():
    with counting() as flops:
        Ewc(fisher_samples=4).remember(line := _Line(), Carried(), _passes(line))
    assert flops[IMPORTANCE] > 0 == flops.get(TRAINING, 0)


def test_importance_is_taken_in_evaluation_mode():
    model = _Line()
    model.norm, modes = nn.BatchNorm1d(2), []
    passes = _passes(model)
    spying = passes._replace(gradients=lambda batch: (modes.append(model.norm.training), passes.gradients(batch))[1])
    Ewc(fisher_samples=2).remember(model, Carried(), spying)
    assert modes == [False] and model.norm.training


def test_the_penalty_weighs_the_squared_distance():
    method, model = Ewc(strength=3.0), _Line()
    groups = {"fisher": {"w": torch.tensor([2.0, 0.5]), "unused": torch.ones(3)}}
    anchor = {"w": torch.tensor([0.0, 4.0]), "unused": torch.ones(3), "not trained": torch.ones(1)}
    carried = method.carry(model, Given(None, Memory(groups, anchor), None, None, 0))
    assert method.penalty(model, carried).item() == pytest.approx(1.5 * (2.0 * 1 + 0.5 * 4))


@pytest.mark.parametrize("given", [None, Memory({}, {})])
def test_the_first_step_has_no_penalty(given):
    method, model = Ewc(), _Line()
    assert method.penalty(model, method.carry(model, Given(None, given, None, None, 0))) is None


def test_a_memory_of_other_parameters_is_refused():
    stranger = Memory({"fisher": {"w": torch.ones(7)}}, {})
    with pytest.raises(ValueError, match="Fisher information of the memory has nothing of the right shape for 2 of 2"):
        Ewc().carry(_Line(), Given(None, stranger, None, None, 0))


def test_the_second_step_moves_important_weights_less(tiny, step_plan):
    first = train.update(tiny, step_plan, UpdateSpec(method=Ewc(fisher_samples=16), lr=3e-3), 0)
    fisher, before = memory.load(first.memory, "ewc").groups["fisher"], load(first.checkpoint)
    assert first.passes == 2
    distances = []
    for strength in (0.0, 1e5):
        spec = UpdateSpec(method=Ewc(fisher_samples=16, strength=strength), lr=1e-3)
        after = load(train.update(first.checkpoint, step_plan, spec, 1, memory=first.memory).checkpoint)
        distances.append(sum((fisher[name] * (after[name] - before[name]).square()).sum() for name in before))
    assert distances[1] < 0.5 * distances[0]
