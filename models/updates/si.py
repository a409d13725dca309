"""Synaptic intelligence: Zenke et al. 2017, arXiv 1703.04200, Eqs. 3 to 5, as in FoMo-in-Flux, arXiv 2408.14471.

Defaults of FoMo-in-Flux: c 0.5, xi 1. Its path integral adds lr g^2 at every iteration, with g after clipping and the
penalty's gradient in it: `path: squared_gradient`, the default. The paper's own adds -g times the change of the weight,
with g the gradient of the loss alone: `path: displacement`. For plain gradient descent without a penalty and clipping
both are the same; what Adam changes a weight by is far from lr g, though.

Our readings: the denominator has the distance travelled in the step itself, also where the step starts from merged
weights and not from the anchor; what a path loses overall counts as 0, so that no weight is pushed away; lr is that of
the schedule, without factors of single layers.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.updates.carried import Tensors, clones, trained, zeros
from models.updates.method import Carried, Given, Method, Moment, Passes
from models.updates.quadratic import kept, quadratic_penalty


class Si(Method):
    """Finetune with a penalty on leaving the expert of the step before, per weight as its moves lowered the loss."""

    kind: Literal["si"] = "si"
    USES: ClassVar[frozenset[str]] = frozenset({"memory"})
    strength: float = Field(0.5, ge=0)  # of the penalty, c in the paper
    damping: float = Field(1.0, gt=0)  # xi, on the scale of a squared change of a weight
    path: Literal["squared_gradient", "displacement"] = "squared_gradient"  # displacement: as in the paper

    def name(self) -> str:
        """How tables call the method."""
        return self.kind if self.path == "squared_gradient" else f"{self.kind} {self.path}"

    def carry(self, model: nn.Module, given: Given) -> Carried:
        """Paths of length 0, the start, and from the second step on importance and anchor of the steps before."""
        weights = trained(model)
        fixed = {"start": clones(weights)}
        if given.memory is not None and "omega" in given.memory.groups:
            fixed["omega"] = kept(given.memory.groups["omega"], weights, "the importance of the memory")
            fixed["anchor"] = kept(given.memory.anchor, weights, "the memory's anchor")
        if self.path == "displacement":  # room that each iteration writes before it reads: nothing to store
            fixed["gradient"], fixed["before"] = zeros(weights), zeros(weights)
        return Carried(fixed=fixed, running={"path": zeros(weights)})

    def penalty(self, model: nn.Module, carried: Carried) -> Tensor | None:
        """c times the weighted squared distance to the anchor; none in the first step."""
        if "omega" not in carried.fixed:
            return None
        return self.strength * quadratic_penalty(trained(model), carried.fixed["anchor"], carried.fixed["omega"])

    @torch.no_grad()
    def shape_gradients(self, model: nn.Module, carried: Carried) -> None:
        """Note the weights and the gradient of the loss alone, where the path is made of both; change nothing."""
        if self.path == "squared_gradient":
            return
        weights, fixed = trained(model), carried.fixed
        gradients = list(fixed["gradient"].values())
        torch._foreach_copy_(list(fixed["before"].values()), list(weights.values()))
        torch._foreach_copy_(gradients, _gradients(weights))
        if "omega" in fixed:
            away = torch._foreach_sub(list(weights.values()), list(fixed["anchor"].values()))
            torch._foreach_addcmul_(gradients, list(fixed["omega"].values()), away, value=-2 * self.strength)

    @torch.no_grad()
    def after_step(self, model: nn.Module, carried: Carried, moment: Moment) -> None:
        """Lengthen the path of each weight by what its last move did for the loss."""
        weights, path = trained(model), list(carried.running["path"].values())
        if self.path == "squared_gradient":
            gradients = _gradients(weights)
            torch._foreach_addcmul_(path, gradients, gradients, value=moment.lr)
            return
        moves = torch._foreach_sub(list(weights.values()), list(carried.fixed["before"].values()))
        torch._foreach_mul_(moves, list(carried.fixed["gradient"].values()))
        for move in moves:
            move.nan_to_num_(0.0)  # of a skipped step: no move times a gradient that is not finite
        torch._foreach_sub_(path, moves)

    @torch.no_grad()
    def remember(self, model: nn.Module, carried: Carried, passes: Passes) -> Mapping[str, Mapping[str, Tensor]]:
        """The importance of each weight that trains: the former one and what this step's path adds."""
        omega = {name: self._added(name, weight, carried) for name, weight in trained(model).items()}
        for name, former in carried.fixed.get("omega", {}).items():
            omega[name] += former
        return {"omega": omega}

    def _added(self, name: str, weight: Tensor, carried: Carried) -> Tensor:
        moved = weight - carried.fixed["start"][name]
        return carried.running["path"][name].clamp(min=0) / (moved.square() + self.damping)


def _gradients(weights: Tensors) -> list[Tensor]:
    """The gradients of all, 0 where the loss does not depend on a weight."""
    return [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights.values()]
