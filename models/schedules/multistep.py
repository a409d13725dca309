"""A rate that falls at milestones: He et al. 2015, arXiv 1512.03385, section 4.2; in FoMo-in-Flux without numbers."""

from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from models.schedules.schedule import Length, Position, Schedule, counted


class Multistep(Schedule):
    """A constant rate that is multiplied by `factor` at each milestone of a step."""

    kind: Literal["multistep"] = "multistep"
    warmup: Length = 0.0  # share of a step's iterations, or from 1 on their number
    milestones: tuple[Length, ...] = (0.5, 0.75)  # 32 and 48 of 64 thousand iterations in the paper
    factor: float = Field(0.1, gt=0, lt=1)  # on the rate, at each milestone

    @field_validator("milestones")
    @classmethod
    def _rise(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(milestones)):
            raise ValueError(f"milestones are {list(milestones)}, expected each one later than the one before")
        return milestones

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate at `position`."""
        warmup = counted(self.warmup, position.iterations, "warmup")
        if position.iteration < warmup:
            return (position.iteration + 1) / warmup
        ends = [counted(milestone, position.iterations, "a milestone") for milestone in self.milestones]
        return self.factor ** sum(position.iteration >= end for end in ends)
