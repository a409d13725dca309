"""What a method is given at the start of a step, and what it carries beside the model until the step's end."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.minibatch import Minibatch
from models.updates.memory import Memory

Tensors = dict[str, Tensor]


class Given(NamedTuple):
    """What a step is given beside its data; everything lies on the device of the model."""

    pretrained: nn.Module | None  # frozen, in evaluation mode; only for methods that use it
    memory: Memory | None  # of the step before; none in the first step
    reference_texts: Callable[[int], Tensor]  # at most n distinct texts of the pretraining draws, as token ids
    embed: Callable[[nn.Module, Tensor | None, Tensor | None], tuple[Tensor | None, Tensor | None]]
    # (model, images, tokens) -> normalised fp32 features, in the precision and the parts of the training
    seed: int


@dataclass
class Carried:
    """Tensors and modules beside the model. `running` and `moving` are part of what an interrupted step stores."""

    teacher: nn.Module | None = None  # frozen, in evaluation mode; made again on resume
    fixed: dict[str, Tensors] = field(default_factory=dict)  # group -> name -> tensor; made again on resume
    running: dict[str, Tensors] = field(default_factory=dict)  # changed in place from iteration to iteration
    moving: nn.Module | None = None  # a copy of the model that follows it
    embed: Callable | None = None  # that of Given, for what a method embeds in its loss

    def state(self) -> dict:
        """What changes during the step."""
        return {"running": self.running, "moving": self.moving.state_dict() if self.moving is not None else None}

    def restore(self, state: dict) -> None:
        """Take over what `state()` gave, in place."""
        for group, tensors in state["running"].items():
            for name, tensor in tensors.items():
                self.running[group][name].copy_(tensor)
        if self.moving is not None:
            self.moving.load_state_dict(state["moving"])


class Moment(NamedTuple):
    """Where in a step the loop stands, after an optimizer step."""

    iteration: int  # the one just done, from 0
    iterations: int
    lr: float  # of this iteration


class Passes(NamedTuple):
    """Forward and backward passes after the training of a step, for what a method keeps."""

    batches: Callable[[int], Iterator[Minibatch]]  # full batches of the update pool's draws, from the first again
    gradients: Callable[[Minibatch], Tensors]  # of the contrastive loss, for what trains, by name


def frozen_copy(model: nn.Module) -> nn.Module:
    """A copy that does not train, in evaluation mode."""
    import copy

    from torch._subclasses.fake_tensor import FakeTensor

    tensors = (*model.parameters(), *model.buffers())
    modes = {id(each.fake_mode): each.fake_mode for each in tensors if isinstance(each, FakeTensor)}
    twin = copy.deepcopy(model, modes).eval()  # fake tensors are of the mode of those they copy, not of a copy of it
    return twin.requires_grad_(False)


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def clones(tensors: dict[str, nn.Parameter] | dict[str, Tensor]) -> Tensors:
    """Copies that no optimizer moves."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def zeros(tensors: dict[str, nn.Parameter] | dict[str, Tensor]) -> Tensors:
    """Zeros in the shape of each."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
