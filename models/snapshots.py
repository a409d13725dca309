"""Weights in the middle of a step, for evaluations inside it: the stability gap (De Lange et al., arXiv 2205.13452).

When they are taken is the rule of reference 9.3.
"""

import copy
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from data_catalog.refs import Spec
from models.checkpoints import CheckpointRef
from models.training_step import Training
from models.updates.carried import Tensors


class Snapshot(Spec):
    """What a step would have left, had it ended after so many iterations."""

    iteration: int = Field(ge=1)
    checkpoint: CheckpointRef


def iterations_inside(every_samples: int, batch_size: int, iterations: int) -> tuple[int, ...]:
    """After which iterations a step is looked into: ceil(k E / b), k >= 1, as long as k E is below its samples."""
    marks = range(every_samples, iterations * batch_size, every_samples)
    return tuple(dict.fromkeys(-(-samples // batch_size) for samples in marks))


def weights_now(run: Training) -> Mapping[str, Tensor]:
    """What the method would store now, under the names of the backbone; nothing of `run` is changed."""
    carried = run.carried
    shared = {id(each): each for each in (carried.teacher, carried.fixed, carried.embed) if each is not None}
    model, carried = copy.deepcopy((run.model, carried), shared)
    put_mean(model, run.mean)
    return run.spec.method.finish(model, carried)


def put_mean(model: nn.Module, mean: Tensors | None) -> None:
    """Give `model` the running mean of its weights, where one is kept."""
    if mean is None:
        return
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in mean:
                parameter.copy_(mean[name])
