"""Interpolation of weights: Wortsman et al. 2022, arXiv 2203.05482; EMA-merge in FoMo-in-Flux, arXiv 2408.14471.

With `lines` the way from the base to the mean is scaled per layer; `paper` scales the mean itself, which shrinks
weights, as the code of TIME does.
"""

from typing import Literal

from torch import Tensor

from models.merging.lines import Lines
from models.merging.parts import Part
from models.merging.technique import Found, Technique


class Linear(Technique):
    """The weighted mean of the experts; a running merge sees (new expert, running weights) in this order."""

    kind: Literal["linear"] = "linear"
    lines: Lines | None = None

    def needs_base(self) -> bool:
        """Only where layers go different parts of the way."""
        return self.lines is not None and not self.paper

    def combine(self, part: Part, found: Found) -> Tensor:
        """The weighted mean."""
        mean = weighted(part.experts, self.shares(len(part.experts)))
        if self.lines is None:
            return mean
        factor = self.lines.factor(found.layers[part.name])
        return mean.mul_(factor) if self.paper else part.base.lerp(mean, factor)


def weighted(rows: Tensor, shares: tuple[float, ...]) -> Tensor:
    """The sum of `rows` [n, size] with one share each, in the memory of the first, one row after the other."""
    result = rows[0]
    if len(rows) > 1 or shares[0] != 1:
        result.mul_(shares[0])
    for row, share in zip(rows[1:], shares[1:], strict=True):
        result.add_(row, alpha=share)
    return result
