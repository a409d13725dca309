"""One schedule over all steps of a stream of known length: the reference that FoMo-in-Flux's meta-schedules lack.

For streams whose end is known beforehand, e.g. arXiv 2403.08763, section 3 (one decay over all data).
"""

from typing import Annotated, Literal

from pydantic import Field

from models.schedules.constant import Constant
from models.schedules.cosine import Cosine
from models.schedules.infinite import Infinite
from models.schedules.multistep import Multistep
from models.schedules.rsqrt import Rsqrt
from models.schedules.schedule import Position, Schedule
from models.schedules.wsd import Wsd

OneStep = Annotated[Constant | Cosine | Multistep | Rsqrt | Wsd | Infinite, Field(discriminator="kind")]


class WholeStream(Schedule):
    """`schedule` with all iterations of the stream in place of those of a step; shares are of the stream then."""

    kind: Literal["whole_stream"] = "whole_stream"
    schedule: OneStep = Cosine()  # that is stretched over all steps

    def lr_scale(self, position: Position) -> float:
        """The multiplier of the peak learning rate; raises ValueError when the number of steps is not known."""
        if position.steps is None:
            raise ValueError(
                "a schedule over the whole stream needs its number of steps, which is not known; set `stream.steps`, "
                "or take a schedule for streams without an end, e.g. cosine_autoregressive or infinite"
            )
        if position.step >= position.steps:
            raise ValueError(f"step {position.step} lies beyond a stream of {position.steps} steps, counted from 0")
        passed = position.step * position.iterations + position.iteration
        return self.schedule.lr_scale(Position(passed, position.steps * position.iterations, 0, 1))

    def spans_stream(self) -> bool:
        """Always."""
        return True
