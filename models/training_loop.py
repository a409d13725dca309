"""The iterations of one step: what goes in, what is read back, when the state is saved."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor

from data_catalog.stream import StepPlan
from models import clip
from models.batches import Batch, Replaced, StepBatches
from models.forward import can_trim, trimmed
from models.interruption import HeldSignals
from models.minibatch import Minibatch
from models.parallel import ALONE, Progress, Ranks
from models.schedules import Position
from models.sharding import as_in, restore_model, restore_optimizer, whole
from models.training_step import Training, training_step
from models.unfinished import SaveClock, SavedStates
from models.updates.carried import Moment

CURVES = ("loss", "penalty", "lr", "logit_scale", "gradient_norm", "same_concept", "replaced", "samples_per_second")
BUCKET = 16  # compiled towers see text lengths that are multiples of it: each length compiles once
_READ_EVERY = 20  # iterations between two reads from the device


@dataclass
class Course:
    """How far a step has come; with the moving parts of `run`, all it takes to go on as if nothing had happened."""

    run: Training
    iteration: int = 0
    curves: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CURVES})
    replaced: list[Replaced] = field(default_factory=list)
    ended_early: bool = False  # the loss was no longer finite, and the spec says to keep what was good
    snapshots: dict[int, str] = field(default_factory=dict)  # iteration -> digest of the weights after it

    def state(self) -> dict:
        """What is stored of an unfinished step; all processes of a model in shards call it."""
        run = self.run
        return {
            "model": whole(run.model.state_dict()),
            "optimizer": whole(run.optimizer.state_dict()),
            "carried": run.carried.state(),
            "mean": whole(run.mean),
            "scaler": run.scaler.state_dict() if run.scaler else None,
            "rng": _random_states(),
            "iteration": self.iteration,
            "curves": self.curves,
            "replaced": [tuple(draw) for draw in self.replaced],
            "ended_early": self.ended_early,
            "snapshots": self.snapshots,
        }

    def restore(self, state: dict) -> None:
        """Take over what `state()` gave."""
        run = self.run
        restore_model(run.model, state["model"])
        restore_optimizer(run.optimizer, state["optimizer"])
        run.carried.restore(state["carried"])
        for name, tensor in (state["mean"] or {}).items():
            run.mean[name].copy_(as_in(run.mean[name], tensor))
        if run.scaler:
            run.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["rng"]["cpu"])
        if "cuda" in state["rng"]:
            torch.cuda.set_rng_state(state["rng"]["cuda"])
        self.iteration, self.curves, self.ended_early = state["iteration"], state["curves"], state["ended_early"]
        self.replaced = [Replaced(*draw) for draw in state["replaced"]]
        self.snapshots = state.get("snapshots", {})  # states of older versions have none


@dataclass
class Loop:
    """Takes a course to the end of its step, or after a signal to that of the iteration."""

    course: Course
    batches: StepBatches
    data: StepPlan
    steps: int | None  # of the whole stream, where it is known
    backbone: str
    ranks: Ranks
    saved: SavedStates
    clock: SaveClock
    signals: HeldSignals
    progress: Progress | None = None
    snapshots_at: frozenset[int] = frozenset()  # iterations after which `snapshot` is called
    snapshot: Callable[[Course], None] | None = None

    def __post_init__(self) -> None:
        self._device = self.course.run.stopped.device
        self._trims = can_trim(self.course.run.model)
        self._pending: list[dict[str, Tensor | float]] = []
        self._replaced: list[tuple[Replaced, ...]] = []  # of each pending iteration, in this process
        self._read_at = time.monotonic()

    def go(self) -> None:
        """Iterate; raises FloatingPointError at a loss that is not finite, unless the spec says to stop there."""
        course = self.course
        if course.ended_early:
            return
        for batch in self.batches.ahead(course.iteration):
            self._pending.append(self._iterate(batch))
            self._replaced.append(batch.replaced)
            course.iteration += 1
            finished = course.iteration == self.data.iterations
            stopped, due = self.ranks.any(self.signals.came is not None, self.clock.tick())
            stopped, due = stopped and not finished, due and not finished
            looked_at = course.iteration in self.snapshots_at
            if due or stopped or finished or looked_at or len(self._pending) == _READ_EVERY:
                self._read()
                if course.ended_early:
                    return
            if looked_at and self.ranks.is_first:
                self.snapshot(course)
            if due or stopped:
                self.save()
            if stopped:
                return  # the signal is delivered by the caller's context

    def save(self) -> None:
        """Store all it takes to go on from here; the first process does, since all have the same weights."""
        began = time.monotonic()
        if self.ranks.is_first or self.course.run.is_sharded:
            state = self.course.state()
        if self.ranks.is_first:
            self.saved.save(state, self.course.iteration)
        self.clock.saved(time.monotonic() - began)

    def minibatch(self, batch: Batch) -> Minibatch:
        """`batch` on the device, normalised, its texts no longer than they must be."""
        bucket = BUCKET if self.course.run.spec.compile else 1
        return minibatch_of(batch, self._device, self.backbone, self._trims, bucket, self.ranks)

    def _iterate(self, batch: Batch) -> dict[str, Tensor | float]:
        run, spec = self.course.run, self.course.run.spec
        position = Position(self.course.iteration, self.data.iterations, self.data.step, self.steps)
        moment = Moment(position.iteration, position.iterations, spec.lr * spec.schedule.lr_scale(position))
        minibatch = self.minibatch(batch)
        outcome = training_step(run, minibatch, moment)
        pairs = len(minibatch.concepts) * (len(minibatch.concepts) - 1)
        return outcome._asdict() | {
            "lr": moment.lr,
            "logit_scale": run.model.logit_scale.detach().exp(),
            "same_concept": _same_concept_pairs(minibatch.concepts) / max(1, pairs),
        }

    def _read(self) -> None:
        """Bring what happened since the last read from the device to the host."""
        rows = [{name: float(value) for name, value in row.items()} for row in self._pending]
        for row, replaced in zip(rows, zip(*self.ranks.gathered(self._replaced), strict=True), strict=True):
            row["replaced"] = sum(map(len, replaced))
            self.course.replaced += chain(*replaced)
        rate = len(rows) * self.data.batch_size / (time.monotonic() - self._read_at)
        good = next((i for i, row in enumerate(rows) if not _is_finite(row, self.course.run)), len(rows))
        for row in rows[:good]:
            for name, value in (row | {"samples_per_second": rate}).items():
                self.course.curves[name].append(value)
        self._pending, self._replaced, self._read_at = [], [], time.monotonic()
        if good < len(rows):
            self._stop_at(self.course.iteration - len(rows) + good, rows[good])
        if self.progress and self.ranks.is_first and self.course.curves["loss"]:
            self.progress(self.course.iteration, self.data.iterations, self.course.curves["loss"][-1])

    def _stop_at(self, iteration: int, row: dict[str, float]) -> None:
        """End at the first iteration that is not finite: the weights are still those before it."""
        found = f"loss {row['loss']:g}, penalty {row['penalty']:g}, gradient norm {row['gradient_norm']:g}"
        self.course.iteration = iteration
        if self.course.run.spec.on_non_finite == "fail" or iteration == 0:
            keep = ", or keep what was good until then with `on_non_finite: stop`" if iteration else ""
            raise FloatingPointError(
                f"step {self.data.step} is not finite at iteration {iteration} of {self.data.iterations} ({found}); "
                f"lower `lr` or `clip_norm` or set `precision: fp32`{keep}"
            )
        self.course.ended_early = True


def _is_finite(row: dict[str, float], run: Training) -> bool:
    """With loss scaling a gradient overflows now and then and is left out; without, it is the end."""
    checked = ("loss", "penalty") if run.scaler else ("loss", "penalty", "gradient_norm")
    return all(math.isfinite(row[name]) for name in checked)


def minibatch_of(
    batch: Batch, device: torch.device, backbone: str, trims: bool, bucket: int = 1, ranks: Ranks = ALONE
) -> Minibatch:
    """`batch` on `device`, normalised, its texts cut to what is needed where the model allows it."""
    tokens = trimmed(batch.tokens, bucket) if trims else batch.tokens
    images = clip.normalise(batch.images.to(device, non_blocking=True), backbone)
    tokens, concepts = (rows.to(device, non_blocking=True) for rows in (tokens, batch.concepts))
    return Minibatch(images, tokens, *ranks.everywhere(concepts), batch.pretraining, ranks)


def _same_concept_pairs(concepts: Tensor) -> int:
    """How many ordered pairs of rows [batch] are of one concept, none counting for itself."""
    counts = concepts[concepts >= 0].unique(return_counts=True)[1]
    return int((counts * (counts - 1)).sum())


def _random_states() -> dict[str, Tensor]:
    cpu = {"cpu": torch.get_rng_state()}
    return cpu | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else cpu
