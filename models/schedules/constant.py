"""A constant learning rate: the schedule "none" of FoMo-in-Flux (arXiv 2408.14471, section 4)."""

from typing import Literal

from models.schedules.schedule import Length, Position, Schedule, counted


class Constant(Schedule):
    """The same learning rate throughout, after a warm-up if one is wanted."""

    kind: Literal["constant"] = "constant"
    warmup: Length = 0.0  # share of a step's iterations, or from 1 on their number

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate at `position`."""
        warmup = counted(self.warmup, position.iterations, "warmup")
        return min(1.0, (position.iteration + 1) / warmup) if warmup else 1.0
