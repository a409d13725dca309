"""DARE, drop and rescale, then task arithmetic: Yu et al. 2023, arXiv 2311.03099, section 3.2."""

from typing import Literal

from torch import Tensor

from models.merging.dare import Dropping
from models.merging.parts import Part
from models.merging.technique import Found, Summing, total


class DareLinear(Dropping, Summing):
    """Drop entries of the task vectors at random, rescale the others, add up what is left."""

    kind: Literal["dare_linear"] = "dare_linear"

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the scaled sum of what was not dropped."""
        return self.onto(part, total(self.weighed(self.kept(part, found))), found)
