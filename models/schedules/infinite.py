"""Infinite learning rates: Ibrahim et al. 2024, arXiv 2403.08763, section 7; in vision, arXiv 2503.02844, section 3.

Warm-up and cool-down happen once, in the first step; the constant phase goes on through all later ones. The papers
anneal a copy of the weights whenever some are needed and go on from those before the annealing. Here every step ends
in weights that are deployed and that the next step may start from: so by default each step anneals at its end and the
next begins at the constant rate again, without a warm-up. `anneal_at` leaves it to the last step, or out.
"""

from math import sqrt
from typing import Literal

from pydantic import Field, model_validator

from models.schedules.schedule import Length, Position, Schedule, between, counted, half_cosine

_STEEPNESS = 10  # of the reciprocal root


def _rsqrt(progress: float) -> float:
    end = 1 / sqrt(1 + _STEEPNESS)
    return (1 / sqrt(1 + _STEEPNESS * progress) - end) / (1 - end)


SHAPES = {"cosine": half_cosine, "rsqrt": _rsqrt}  # from 1 at progress 0 to 0 at progress 1


class Infinite(Schedule):
    """Warm-up, cool-down to a constant rate that lasts for the stream, and exponential annealing before deployment."""

    kind: Literal["infinite"] = "infinite"
    warmup: Length = 0.1  # of the first step, as all lengths but that of annealing
    cooldown: Length = 0.3  # share of the first step's iterations, or from 1 on their number
    shape: Literal["cosine", "rsqrt"] = "cosine"  # of the cool-down
    constant: float = Field(0.55, gt=0, le=1)  # multiplier of the constant phase: halfway from peak to end
    anneal: Length = 0.2  # of every step that anneals
    end: float = Field(0.1, gt=0, le=1)  # multiplier at the end of annealing
    anneal_at: Literal["every_step", "last_step", "never"] = "every_step"  # the end of which steps

    @model_validator(mode="after")
    def _falls(self) -> "Infinite":
        if self.end > self.constant:
            raise ValueError(f"end is {self.end}, above constant, which is {self.constant}; annealing must lower it")
        return self

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate; raises ValueError when it hangs on an unknown number of steps."""
        warmup = counted(self.warmup, position.iterations, "warmup") if position.step == 0 else 0
        anneal = counted(self.anneal, position.iterations, "anneal") if self._anneals(position) else 0
        start = max(warmup, position.iterations - anneal)
        if position.iteration < start:
            return self._before_annealing(position, position.iteration)
        level = self._before_annealing(position, start)
        progress = (position.iteration - start + 1) / (position.iterations - start)
        return level * (self.end / level) ** progress

    def spans_stream(self) -> bool:
        """Where only the last step anneals."""
        return self.anneal_at == "last_step"

    def _anneals(self, position: Position) -> bool:
        if self.anneal_at == "last_step" and position.steps is None:
            raise ValueError(
                "anneal_at is last_step, but the number of steps of the stream is not known; set it to every_step, "
                "or to never for a stream without an end"
            )
        return self.anneal_at == "every_step" or (self.anneal_at == "last_step" and position.step + 1 == position.steps)

    def _before_annealing(self, position: Position, iteration: int) -> float:
        """The multiplier at `iteration` of the step, which `position` gives, were there no annealing."""
        if position.step > 0:
            return self.constant
        warmup = counted(self.warmup, position.iterations, "warmup")
        if iteration < warmup:
            return (iteration + 1) / warmup
        cooldown = counted(self.cooldown, position.iterations, "cooldown")
        if iteration >= warmup + cooldown:
            return self.constant
        return between(SHAPES[self.shape]((iteration - warmup + 1) / cooldown), self.constant, 1.0)
