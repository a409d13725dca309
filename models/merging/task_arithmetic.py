"""Task arithmetic: Ilharco et al. 2022, arXiv 2212.04089, section 2."""

from typing import Literal

from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Found, Summing, total


class TaskArithmetic(Summing):
    """The base with the sum of all task vectors, times a scale."""

    kind: Literal["task_arithmetic"] = "task_arithmetic"

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the scaled sum."""
        return self.onto(part, total(self.vectors(part)), found)
