"""Warm-up, stable, decay: Hu et al. 2024, arXiv 2404.06395, section 4; shapes: Hägele et al. 2024, arXiv 2405.18392.

The decay ends at the floor of the other schedules in its last iteration, so that a step never ends without learning.
"""

from collections.abc import Callable
from math import sqrt
from typing import Literal

from models.schedules.schedule import FLOOR, Length, Position, Schedule, between, counted, half_cosine

SHAPES: dict[str, Callable[[float], float]] = {  # from 1 at progress 0 to 0 at progress 1
    "linear": lambda progress: 1 - progress,
    "cosine": half_cosine,
    "1-sqrt": lambda progress: 1 - sqrt(progress),
}


class Wsd(Schedule):
    """Linear warm-up, the peak for most of a step, and a decay to the floor at its end."""

    kind: Literal["wsd"] = "wsd"
    warmup: Length = 0.1  # share of a step's iterations, or from 1 on their number
    cooldown: Length = 0.2  # of the decay: a fifth is enough to match a cosine in Hägele et al., section 4
    shape: Literal["linear", "cosine", "1-sqrt"] = "1-sqrt"  # of the decay

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate at `position`."""
        warmup = counted(self.warmup, position.iterations, "warmup")
        if position.iteration < warmup:
            return (position.iteration + 1) / warmup
        cooldown = counted(self.cooldown, position.iterations, "cooldown")
        stable = max(warmup, position.iterations - cooldown)
        if position.iteration < stable:
            return 1.0
        progress = (position.iteration - stable + 1) / (position.iterations - stable)
        return between(SHAPES[self.shape](progress), FLOOR, 1.0)
