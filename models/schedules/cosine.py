"""Cosine annealing within a step: Loshchilov & Hutter 2017, arXiv 1608.03983; arXiv 2408.14471, section 4.

The same in every step, so it is also what the paper calls the continued meta-schedule: each step warms up to the peak.
"""

from typing import Literal

from models.schedules.schedule import FLOOR, Length, Position, Schedule, between, counted, half_cosine


class Cosine(Schedule):
    """Linear warm-up, then half a cosine down to the floor, the same in every step."""

    kind: Literal["cosine"] = "cosine"
    warmup: Length = 0.1  # share of a step's iterations, or from 1 on their number

    def peak(self, position: Position) -> float:
        """The multiplier at the end of the warm-up of a step."""
        return 1.0

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate at `position`."""
        warmup = counted(self.warmup, position.iterations, "warmup")
        peak = self.peak(position)
        if position.iteration < warmup:
            return peak * (position.iteration + 1) / warmup
        return self.decayed(position, warmup, peak)

    def decayed(self, position: Position, warmup: int, peak: float) -> float:
        """The multiplier after a warm-up of `warmup` iterations to `peak`."""
        if warmup == 0:  # plain annealing starts at the peak and has not reached the floor at the last iteration
            return between(half_cosine(position.iteration / position.iterations), FLOOR, peak)
        elapsed = position.iteration - warmup + 1
        return between(half_cosine(elapsed / (position.iterations - warmup)), FLOOR, peak)
