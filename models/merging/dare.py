"""Dropping entries of task vectors at random and rescaling the rest: DARE, Yu et al. 2023, arXiv 2311.03099.

Every entry goes with probability 1 - density, as in the paper. The code of TIME (arXiv 2412.06712) drops an exact
number instead, k - 1 of N with k = int(N (1 - density)); `paper` does that.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from models.merging.parts import Part
from models.merging.random_bits import random_bits
from models.merging.technique import Found, TaskVectorTechnique, density_field, dropped

_BITS = 31


class Dropping(TaskVectorTechnique):
    """What DARE does to task vectors, whatever is done with them then."""

    USES_RANDOM: ClassVar[bool] = True
    density: float = density_field(0.2)  # share of each task vector that stays

    def ranks(self, count: int) -> tuple[int, ...]:
        """The smallest random number that stays, where their number is exact."""
        rank = dropped(count, self.density) if self.paper else 0
        return (rank,) if rank else ()

    def rank_keys(self, part: Part, expert: int, found: Found) -> Tensor:
        """The random numbers of an expert's entries."""
        return self._drawn(part, expert, found).to(part.base.device)

    def key_bits(self, dtype: torch.dtype) -> int:
        """How many bits a random number has."""
        return _BITS

    def threshold(self, key: int, bits: int) -> float:
        """The random number itself."""
        return key

    def prune(self, vector: Tensor, expert: int, part: Part, found: Found) -> None:
        """Drop entries; the rest gets longer in turn."""
        if self.density == 1:
            return
        above = self._drawn(part, expert, found).sub_(self._threshold(part.group, expert, found) - 1)
        stays = above.clamp_(0, 1).to(vector)  # 1 or 0
        vector.mul_(stays).div_(self.density)

    def gain_of_sum(self, experts: int) -> float:
        """How many times the length of equal task vectors their sum has: what was dropped leaves noise in the rest.

        Entries have the variance (1 - d)/d around what they would be, so squares add up to n/d + n (n - 1).
        """
        return math.sqrt(experts / self.density + experts * (experts - 1))

    def gain_of_one(self, experts: int) -> float:
        """The same where the entries that stay count once, however many they are: one in d stays of each expert."""
        return math.sqrt(1 - (1 - self.density) ** experts) / self.density

    def _threshold(self, group: str, expert: int, found: Found) -> int:
        if not self.paper:
            return round((1 - self.density) * 2**_BITS)
        return next(iter(found.thresholds[group][expert]), 0)

    @staticmethod
    def _drawn(part: Part, expert: int, found: Found) -> Tensor:
        name = found.drawn_as.get(part.name, part.name)
        return random_bits(found.seed, name, expert, part.start, part.experts.shape[1])
