"""Fisher merging: Matena and Raffel 2021, arXiv 2111.09832, section 3, Eq. 2.

In place of the paper's lower bound on the information, `damping` is added to it, so that what no expert needs becomes
the weighted mean without a jump.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import total
from models.merging.weighing import Weighing


class Fisher(Weighing):
    """The mean of the experts, each weight counting as much as its expert's data needs it."""

    kind: Literal["fisher"] = "fisher"
    USES_STATISTICS: ClassVar[str | None] = "fisher"
    damping: float = Field(1e-12, ge=1e-30)  # a squared gradient: below it, experts count alike

    def informed(self, part: Part, shares: tuple[float, ...]) -> Tensor:
        """Each weight by its information; raises ValueError for information that is negative or not finite."""
        trust = part.statistics  # [n, size], read for this part alone
        least, most = torch.aminmax(trust)  # both are NaN if any is
        if not (bool(least >= 0) and bool(most < float("inf"))):
            raise ValueError(
                f"the Fisher information of {part.name!r} has values that are negative or not finite; collect it again"
            )
        trust.add_(self.damping)
        if self.weights is not None:
            for row, share in zip(trust, shares, strict=True):
                row.mul_(share)
        merged = part.experts[0].mul_(trust[0])
        for expert, row in zip(part.experts[1:], trust[1:], strict=True):
            merged.addcmul_(expert, row)
        return merged.div_(total(trust))
