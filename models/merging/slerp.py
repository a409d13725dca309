"""Spherical interpolation of two experts: Shoemake 1985, "Animating rotation with quaternion curves"; per tensor.

The angle is that of the unit vectors, the combination that of the weights themselves; nearly parallel ones are
interpolated. `weights` are (first, second), as for interpolation. In the code of TIME (arXiv 2412.06712) the first
coefficient is the weight of the second expert, which `paper` keeps.
"""

import math
from typing import ClassVar, Literal

from torch import Tensor

from models.merging.spanning import Spanning

_PARALLEL = 0.9995  # cosines beyond it


class Slerp(Spanning):
    """Go from one expert to the other along the arc between them."""

    kind: Literal["slerp"] = "slerp"
    USES_BASE: ClassVar[bool] = False
    EXPERTS: ClassVar[int | None] = 2

    def coefficients(self, gram: Tensor) -> list[float]:
        """Those of the arc; of the chord where it is flat."""
        first, second = self._ways()
        lengths = math.sqrt(gram[0, 0] * gram[1, 1])
        cosine = float(gram[0, 1]) / lengths if lengths else 1.0
        if abs(cosine) > _PARALLEL:
            return [0.0, first, second]
        angle = math.acos(cosine)
        return [0.0, math.sin(first * angle) / math.sin(angle), math.sin(second * angle) / math.sin(angle)]

    def mean(self, experts: int) -> list[float]:
        """Coefficients of the chord."""
        return [0.0, *self._ways()]

    def _ways(self) -> tuple[float, float]:
        first, second = self.shares(2)
        return (second, first) if self.paper else (first, second)
