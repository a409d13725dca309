"""Learning-rate schedules: multipliers of the peak (FoMo-in-Flux, arXiv 2408.14471, section 4; executed values)."""

from math import ceil, cos, pi
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from data_catalog.refs import Spec

FLOOR = 0.001  # share of the peak that remains at the end of a step


class Position(NamedTuple):
    """Where in the stream an optimizer step stands; all counts from 0."""

    iteration: int
    iterations: int
    step: int


class Constant(Spec):
    """The same learning rate throughout."""

    kind: Literal["constant"] = "constant"

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate at `position`."""
        return 1.0


class Cosine(Spec):
    """Linear warm-up, then half a cosine down to the floor, the same in every step."""

    kind: Literal["cosine"] = "cosine"
    warmup: float = Field(0.1, ge=0, lt=1)  # share of the iterations of a step

    def peak(self, position: Position) -> float:
        """The multiplier at the end of the warm-up of a step."""
        return 1.0

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate at `position`."""
        warmup = ceil(self.warmup * position.iterations)
        peak = self.peak(position)
        if position.iteration < warmup:
            return peak * (position.iteration + 1) / warmup
        if warmup == 0:  # plain annealing starts at the peak and has not reached the floor at the last iteration
            return _lerp(_half_cosine(position.iteration / position.iterations), FLOOR, peak)
        elapsed = position.iteration - warmup + 1
        return _lerp(_half_cosine(elapsed / (position.iterations - warmup)), FLOOR, peak)


class CosineAutoregressive(Cosine):
    """Cosine whose peak itself decays over the steps, on the cosine of the whole stream so far."""

    kind: Literal["cosine_autoregressive"] = "cosine_autoregressive"

    def peak(self, position: Position) -> float:
        """The multiplier at the end of the warm-up of a step: 1 in the first, lower in each later one."""
        if position.step == 0:
            return 1.0
        decaying = max(1, position.iterations - ceil(self.warmup * position.iterations))
        elapsed = position.step * decaying + 1
        return _lerp(_half_cosine(elapsed / ((position.step + 1) * decaying)), FLOOR, 1.0)


AnySchedule = Annotated[Constant | Cosine | CosineAutoregressive, Field(discriminator="kind")]


def _half_cosine(progress: float) -> float:
    return (1 + cos(pi * progress)) / 2


def _lerp(share: float, low: float, high: float) -> float:
    return low + share * (high - low)
