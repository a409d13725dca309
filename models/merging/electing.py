"""What TIES and its relatives share: a sign is elected per weight, and the experts that agree with it are combined.

Yadav et al. 2023, arXiv 2306.01708, Algorithm 1. A weight whose sum is exactly 0 takes the sign of the majority of all
weights of its half, which is known only in the end: they are written then. Where that is a draw too, it counts
as negative, as in the authors' code.
"""

from typing import Literal

import torch
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Choosing, Found, Patch, total

MOST_PATCHES = 1_000_000  # of a half of the model; where there are more, the half is combined once more


class Electing(Choosing):
    """Task vectors, pruned in some way, whose disagreeing parts do not cancel."""

    agreeing: Literal["mean", "sum", "max"] = "mean"  # what becomes of the entries that have the elected sign

    def own_gain(self, experts: int) -> float:
        """All experts agree where vectors are equal: their number for a sum, else 1."""
        return float(experts) if self.agreeing == "sum" else 1.0

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and what the agreeing experts make of each weight."""
        for _ in self.weighed(part, found):
            pass  # in place
        vectors = part.experts
        sign = total(vectors).sign_()
        if part.group in found.majority:
            sign.masked_fill_(sign == 0, float(found.majority[part.group]))
        else:
            self._note(part, vectors, sign, found)
        return self.onto(part, self.agreed(vectors, sign), found)

    def agreed(self, vectors: Tensor, sign: Tensor) -> Tensor:
        """Mean, sum or largest of the entries of `vectors` [n, size], which are used up, that have the sign [size].

        Vectors come times their weights: the mean is over the weights that agree, the largest is itself without any.
        """
        result, weight = torch.zeros_like(sign), torch.zeros_like(sign)
        for row, factor in zip(vectors, self.factors(len(vectors)), strict=True):
            entries = row.mul_(sign).clamp_(min=0)
            if self.agreeing == "max":
                if factor:
                    result = torch.where(entries > weight, entries / factor, result)
                torch.maximum(weight, entries, out=weight)
                continue
            result.add_(entries)
            if self.agreeing == "mean":
                weight.add_(entries.sign_(), alpha=factor)
        if self.agreeing == "mean":
            result.div_(weight.masked_fill_(weight == 0, 1))
        return result.mul_(sign)

    def _note(self, part: Part, vectors: Tensor, sign: Tensor, found: Found) -> None:
        """Count the signs; keep what the few weights would become that have none, under either majority."""
        moved = vectors[0].abs()
        for row in vectors[1:]:
            moved.add_(row.abs())
        cancelled = moved.sign_().sub_(sign.abs())  # 1 where something moved and no sign won, else 0
        signs, count, group = int(sign.sum()), int(cancelled.sum()), part.group  # exact: far below 2^24 values
        with found.lock:
            found.signs[group] = found.signs.get(group, 0) + signs
            found.cancelled[group] = found.cancelled.get(group, 0) + count
            if not count or found.cancelled[group] > MOST_PATCHES:
                return
        where = cancelled.nonzero()[:, 0]
        small = part._replace(base=part.base[where])
        positive, negative = (
            self.onto(small, self.agreed(vectors[:, where], torch.full_like(sign[where], value)), found)
            for value in (1.0, -1.0)
        )
        with found.lock:
            found.patches.setdefault(group, []).append(Patch(part.name, where + part.start, positive, negative))
