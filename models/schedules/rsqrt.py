"""Reciprocal square root with cool-down: Zhai et al. 2022, arXiv 2106.04560, section 3.5; FoMo-in-Flux, section 4.

Where the published formulas are undefined (no warm-up, steps of one iteration) roots are taken of at least 1, no peak
rises above that of the first step, and the cool-down starts when the warm-up has ended.
"""

from math import sqrt
from typing import Literal

from models.schedules.schedule import FLOOR, Length, Position, Schedule, between, counted


class Rsqrt(Schedule):
    """Linear warm-up, decay with the root of the iterations, and a linear cool-down to 0, the same in every step."""

    kind: Literal["rsqrt"] = "rsqrt"
    warmup: Length = 0.1  # share of a step's iterations, or from 1 on their number
    cooldown: Length = 0.1  # share of a step's iterations, or from 1 on their number

    def peak(self, position: Position, warmup: int, cooldown: int) -> float:
        """The multiplier at the end of a warm-up of `warmup` iterations."""
        return 1.0

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate at `position`."""
        warmup = counted(self.warmup, position.iterations, "warmup")
        cooldown = counted(self.cooldown, position.iterations, "cooldown")
        if position.iteration < warmup:
            return self.peak(position, warmup, cooldown) * (position.iteration + 1) / warmup
        left = position.iterations - position.iteration - 1
        return self.decayed(position, warmup, cooldown) * (left / cooldown if left < cooldown else 1.0)

    def decayed(self, position: Position, warmup: int, cooldown: int) -> float:
        """The multiplier after the warm-up, before the cool-down takes its part."""
        passed = position.iteration if warmup else position.iteration + 1
        return between(root_share(warmup, passed), FLOOR, self.peak(position, warmup, cooldown))


def root_share(warmup: int, passed: int) -> float:
    """sqrt(warmup / passed), both at least 1 and the share at most 1."""
    start = max(1, warmup)
    return sqrt(start) / sqrt(max(start, passed))
