"""DARE, drop and rescale, then task arithmetic: Yu et al. 2023, arXiv 2311.03099, section 3.2."""

from typing import Literal

from models.merging.dare import Dropping
from models.merging.technique import Summing


class DareLinear(Dropping, Summing):
    """Drop entries of the task vectors at random, rescale the others, add up what is left."""

    kind: Literal["dare_linear"] = "dare_linear"

    def own_gain(self, experts: int) -> float:
        """That of a sum."""
        return self.gain_of_sum(experts)
