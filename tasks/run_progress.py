"""How far a run of a living stream is, and when it ends, by what the stages of its last step took."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from data_catalog.durations import spoken
from data_catalog.store_files import write_atomically
from models import living
from models.evaluation.record import StageRecord
from tasks.progress import ARTIFACT_SECONDS


class Left:
    """What is left of a run, if its stages are those of the last step: kinds of stages with their seconds."""

    def __init__(self, past: Sequence[tuple[str, float]]):
        self._left = list(past)
        self._whole = sum(seconds for _, seconds in past)

    def end(self, stage: str) -> None:
        """Take one stage of a kind off."""
        kinds = [kind for kind, _ in self._left]
        if stage in kinds:
            del self._left[kinds.index(stage)]

    @property
    def seconds(self) -> float | None:
        """Seconds left; None where no step was made before."""
        return sum(seconds for _, seconds in self._left) if self._whole else None

    @property
    def percent(self) -> float:
        """How much is done, below 100 until the run says so; 0 where nothing is known."""
        return min(99.0, 100 * (1 - self.seconds / self._whole)) if self._whole else 0.0


class RunProgress:
    """One run, as an artifact that is brought up to date while its stages end."""

    def __init__(self, stream: str):
        self.stream, self._left, self._lock = stream, Left(_past(stream)), threading.Lock()
        self._stages: list[StageRecord] = []
        self._artifact = create_progress_artifact(0, description=f"{stream}: looks what has arrived")
        self._shown = time.monotonic()

    def tell(self, record: StageRecord) -> None:
        """Take note of a stage that has ended; called from the threads of the stages."""
        with self._lock:
            self._stages.append(record)
            self._left.end(record.stage)
            if time.monotonic() - self._shown < ARTIFACT_SECONDS:
                return
            self._shown = time.monotonic()
            left = self._left.seconds
            known = "" if left is None else f"; about {spoken(left)} left, as the last step went"
            said = f"{self.stream}: {len(self._stages)} stages have ended, the last: {record.label}{known}"
            update_progress_artifact(self._artifact, self._left.percent, description=said)

    def end(self) -> None:
        """Say that all is done, and keep what the stages took if a step was trained."""
        reused = sum(stage.reused for stage in self._stages)
        said = f"{self.stream}: done, {len(self._stages) - reused} stages ran, {reused} were re-used"
        update_progress_artifact(self._artifact, 100, description=said)
        if any(stage.stage.startswith("update_") and not stage.reused for stage in self._stages):
            took = [(stage.stage, round(stage.seconds, 3)) for stage in self._stages]
            write_atomically(_memory(self.stream), json.dumps(took).encode())


@contextmanager
def run_progress(stream: str) -> Iterator[RunProgress]:
    """The progress of the run at hand; one that fails is left as far as it came."""
    progress = RunProgress(stream)
    yield progress
    progress.end()


def _past(stream: str) -> list[tuple[str, float]]:
    """What the stages of the last step took; a view: nothing but the time that is told rests on it."""
    return [(kind, took) for kind, took in json.loads(_memory(stream).read_text())] if _memory(stream).is_file() else []


def _memory(stream: str) -> Path:
    return living.file_of(stream, "took.json")
