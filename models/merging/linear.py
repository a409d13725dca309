"""Interpolation of weights: Wortsman et al. 2022, arXiv 2203.05482; EMA-merge in FoMo-in-Flux, arXiv 2408.14471.

With `lines` the way from the base to the mean is scaled per layer; `paper` scales the mean itself, which shrinks
weights, as the code of TIME does.
"""

from collections.abc import Iterable
from typing import ClassVar, Literal

from torch import Tensor

from models.merging.lines import Lines
from models.merging.parts import Part
from models.merging.technique import Found, Technique


class Linear(Technique):
    """The weighted mean of the experts; a running merge sees (new expert, running weights) in this order."""

    kind: Literal["linear"] = "linear"
    BY_ROW: ClassVar[bool] = True
    lines: Lines | None = None  # a length per layer; null: all alike

    def needs_base(self) -> bool:
        """Only where layers go different parts of the way."""
        return self.lines is not None and not self.paper

    def keeps_one(self) -> bool:
        """Unless layers are scaled."""
        return self.lines is None

    def combine(self, part: Part, found: Found) -> Tensor:
        """The weighted mean."""
        mean = weighted(part.experts, self.shares(len(part.experts)))
        if self.lines is None:
            return mean
        factor = self.lines.factor(found.layers[part.name])
        return mean.mul_(factor) if self.paper else part.base.lerp(mean, factor)


def weighted(rows: Iterable[Tensor], shares: tuple[float, ...]) -> Tensor:
    """The sum of `rows` with one share each, in memory of its own, one row after the other."""
    terms = zip(rows, shares, strict=True)
    first, share = next(terms)
    result = first * share
    for row, share in terms:
        result.add_(row, alpha=share)
    return result
