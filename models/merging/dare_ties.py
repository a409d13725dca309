"""DARE with the election of TIES: Yu et al. 2023, arXiv 2311.03099, section 3.2, and arXiv 2306.01708, Algorithm 1."""

from typing import Literal

from models.merging.dare import Dropping
from models.merging.electing import Electing


class DareTies(Dropping, Electing):
    """Drop entries of the task vectors at random, rescale the others, combine those that agree with an elected sign."""

    kind: Literal["dare_ties"] = "dare_ties"

    def own_gain(self, experts: int) -> float:
        """Equal task vectors agree everywhere, so nothing is left out but what was dropped."""
        return self.gain_of_sum(experts) if self.agreeing == "sum" else self.gain_of_one(experts)
