"""What TIES and its relatives share: a sign is elected per weight, and the experts that agree with it are combined.

Yadav et al. 2023, arXiv 2306.01708, Algorithm 1. A weight whose sum is exactly 0 takes the sign of the majority of all
weights of its half, which is known only in the end: if there are such, their half is combined once more. Where that
is a draw too, it counts as negative, as in the authors' code.
"""

from typing import Literal

import torch
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Found, TaskVectorTechnique, total


class Electing(TaskVectorTechnique):
    """Task vectors, pruned in some way, whose disagreeing parts do not cancel."""

    agreeing: Literal["mean", "sum", "max"] = "mean"  # what becomes of the entries that have the elected sign

    def pruned(self, part: Part, found: Found) -> Tensor:
        """What is left of the task vectors [n, size], in the memory of the experts."""
        raise NotImplementedError

    def own_gain(self, experts: int) -> float:
        """All experts agree where vectors are equal: their number for a sum, else 1."""
        return float(experts) if self.agreeing == "sum" else 1.0

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and what the agreeing experts make of each weight."""
        return self.onto(part, self.agreed(self.pruned(part, found), part.group, found), found)

    def agreed(self, vectors: Tensor, group: str, found: Found) -> Tensor:
        """Mean, sum or largest of the entries of `vectors` [n, size] that have the elected sign, which they lose."""
        sign = total(vectors).sign_()
        self._count(sign, vectors, group, found)
        if majority := found.majority.get(group):
            sign.masked_fill_(sign == 0, float(majority))
        result = sign.new_zeros(sign.shape)
        count = sign.new_zeros(sign.shape)
        for row in vectors:
            entries = row.mul_(sign).clamp_(min=0)
            if self.agreeing == "max":
                torch.maximum(result, entries, out=result)
                continue
            result.add_(entries)
            if self.agreeing == "mean":
                count.add_(entries.sign_())
        if self.agreeing == "mean":
            result.div_(count.clamp_(min=1))
        return result.mul_(sign)

    @staticmethod
    def _count(sign: Tensor, vectors: Tensor, group: str, found: Found) -> None:
        if group in found.majority:
            return
        found.signs[group] = found.signs.get(group, 0) + int(sign.sum())  # exact: a part is far below 2^24 values
        still = sign == 0
        moved = torch.zeros_like(still)
        for row in vectors:
            moved |= row != 0
        found.cancelled[group] = found.cancelled.get(group, 0) + int((moved & still).sum())
