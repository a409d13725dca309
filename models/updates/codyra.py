"""CoDyRA, LoRA that selects its ranks: Lu et al. 2024, arXiv 2412.01004, section 3.2; defaults of the released code.

A gate per rank; after a dense part of the step, every optimizer step is followed by a proximal one: the gates are
soft-thresholded by a threshold that rises from 0 to `threshold` in `levels` stairs. What is left is folded into the
weights, as everywhere here. Released settings besides these fields: AdamW without weight decay at lr 5e-4, 500
iterations per step. Difference: after shrinking, the released code also zeroes gates that are *then* below the
threshold; here the proximal step is the soft threshold alone, as the paper writes it.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.adapters.changes import Gated
from models.adapters.linear import adapted_linears
from models.towers import Role
from models.updates.adapted import InBlocks, Make, generator
from models.updates.carried import Tensors, clones
from models.updates.method import Carried, Given, Moment


class Codyra(InBlocks):
    """Train a low-rank change of every matrix whose ranks switch themselves off where the data do not need them."""

    kind: Literal["codyra"] = "codyra"
    places: tuple[Role, ...] = ("query", "key", "value", "attention_output", "mlp_first", "mlp_second")
    rank: int = Field(16, ge=1)  # most directions of each change
    threshold: float = Field(0.005, ge=0)  # kappa_max: what is taken off each gate per iteration, in the end
    levels: int = Field(50, ge=1)  # stairs from 0 to `threshold`
    dense: float = Field(0.5, ge=0, le=1)  # share of the iterations before the first threshold

    def maker(self, linears: list[nn.Linear], seed: int) -> Make:
        """Gated changes, their A and gates drawn one after the other."""
        rng = generator(seed)
        return lambda linear: Gated(linear, self.rank, self.scale, rng)

    def carry(self, model: nn.Module, given: Given) -> Carried:
        """The gates as the last iteration left them, which tells whether the optimizer has moved them."""
        return Carried(running={"gates": clones(_gates(model))})

    def after_step(self, model: nn.Module, carried: Carried, moment: Moment) -> None:
        """Shrink the gates, unless the optimizer step was left out."""
        before, threshold = carried.running["gates"], self.threshold_at(moment.iteration, moment.iterations)
        with torch.no_grad():
            moved = torch.stack([(gate != before[name]).any() for name, gate in _gates(model).items()]).any()
            for place, linear in adapted_linears(model).items():
                linear.change.shrink(moved * threshold)
                before[place].copy_(linear.change.gate)

    def threshold_at(self, iteration: int, iterations: int) -> float:
        """What is taken off each gate after an iteration: 0 in the dense part, then stair by stair up."""
        first = self.dense * iterations
        if iteration < first:
            return 0.0
        stair = int((iteration - first) / (iterations - first) * self.levels) + 1
        return self.threshold * min(stair, self.levels) / self.levels


def _gates(model: nn.Module) -> dict[str, Tensor] | Tensors:
    return {place: linear.change.gate for place, linear in adapted_linears(model).items()}
