"""Gradients are averaged while others are still computed, in one order, whatever comes when."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from models import parallel
from models.parallel import GradientMean, Ranks


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """What was sent, as (numbers, whether the backward pass was still at work), in a group that doubles sums."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    monkeypatch.setattr(parallel, "BUCKET", 1)  # each weight is a bucket
    found, reduce = [], dist.all_reduce

    def all_reduce(tensor, *given, **named):
        found.append((tensor.numel(), model[0].weight.grad is None))
        tensor *= 2  # as if another process had the same
        return reduce(tensor, *given, **named)

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 5, bias=False), nn.Linear(5, 7, bias=False))
    yield model, found
    dist.destroy_process_group()


def passed(model, mean, layers=3, scale=1.0):
    model.zero_grad()
    with mean.of_this_pass():
        (model[:layers](torch.ones(4, 2)) * scale).sum().backward()


def test_from_the_second_iteration_on_the_last_layers_travel_first_and_early(sent):
    model, found = sent
    mean = GradientMean(Ranks(0, 2), list(model.parameters()))
    passed(model, mean)
    assert [early for _, early in found] == [False] * 3
    expected = [weight.grad.clone() for weight in model.parameters()]
    found.clear()
    passed(model, mean)
    assert found == [(35, True), (15, True), (6, False)]
    torch.testing.assert_close([weight.grad for weight in model.parameters()], expected)


def test_the_mean_of_equal_gradients_is_the_gradient(sent):
    model, _ = sent
    plain = [torch.autograd.grad(model(torch.ones(4, 2)).sum(), weight)[0] for weight in model.parameters()]
    mean = GradientMean(Ranks(0, 2), list(model.parameters()))
    for _ in range(2):
        passed(model, mean)
        torch.testing.assert_close([weight.grad for weight in model.parameters()], plain)


def test_weights_without_gradient_hold_nothing_up_for_ever(sent):
    model, found = sent
    mean = GradientMean(Ranks(0, 2), list(model.parameters()))
    for _ in range(2):
        passed(model, mean, layers=2)
    assert model[2].weight.grad is None and [numbers for numbers, _ in found] == [15, 6, 15, 6]


def test_earlier_passes_are_averaged_with_the_last(sent):
    model, _ = sent
    mean = GradientMean(Ranks(0, 2), list(model.parameters()))
    passed(model, mean)
    expected = [3 * weight.grad for weight in model.parameters()]
    model.zero_grad()
    (2 * model(torch.ones(4, 2))).sum().backward()
    with mean.of_this_pass():
        model(torch.ones(4, 2)).sum().backward()
    torch.testing.assert_close([weight.grad for weight in model.parameters()], expected)
