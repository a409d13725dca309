"""The Karcher mean of experts on the sphere, per tensor: Grove and Karcher 1973; Karcher 1977, section 1.

The mean of directions that is nearest to all of them along the sphere, at the weighted mean length. It lies in the span
of the experts, so it is found by their inner products alone, whatever the size of the tensor.
"""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.merging.spanning import Spanning


class Karcher(Spanning):
    """The mean of the experts' directions on the sphere, of any number of experts."""

    kind: Literal["karcher"] = "karcher"
    USES_BASE: ClassVar[bool] = False
    most_iterations: int = Field(100, ge=1)  # of the search for the mean
    tolerance: float = Field(1e-9, gt=0)  # radians that the mean still moves

    def coefficients(self, gram: Tensor) -> list[float]:
        """Of the mean direction, times the mean length, in the experts as they are."""
        lengths = gram.diagonal().sqrt()
        if not bool((lengths > 0).all()):
            return self.mean(len(gram))
        shares = torch.tensor(self.shares(len(gram)), dtype=gram.dtype)
        unit = gram / torch.outer(lengths, lengths)
        mean = self._direction(unit, shares)
        return [0.0, *(mean * (shares @ lengths) / lengths).tolist()]

    def _direction(self, unit: Tensor, shares: Tensor) -> Tensor:
        """The coefficients [n] of the mean in unit vectors with inner products `unit`."""
        mean = _normalised(shares, unit)
        for _ in range(self.most_iterations):
            cosines = (unit @ mean).clamp(-1, 1)
            angles = cosines.acos()
            ways = shares * torch.where(angles > 1e-12, angles / angles.sin().clamp(min=1e-300), 1.0)
            step = ways - (ways * cosines).sum() * mean  # sum of the logarithms at `mean`
            length = float((step @ unit @ step).clamp(min=0).sqrt())
            if length < self.tolerance:
                break
            mean = _normalised(mean * math.cos(length) + step * (math.sin(length) / length), unit)
        return mean


def _normalised(coefficients: Tensor, unit: Tensor) -> Tensor:
    length = (coefficients @ unit @ coefficients).clamp(min=0).sqrt()
    return coefficients / length if length > 0 else coefficients
