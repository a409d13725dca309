"""How far a long stage is, how fast it goes and when it ends: in its log, as a progress artifact, to who listens."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from data_catalog.durations import spoken

ARTIFACT_SECONDS = 5.0  # between two updates of an artifact: each is a request to the server
LOG_SECONDS = 30.0  # between two lines of the log

Listener = Callable[[str, int, int, str], None]  # label, done, in all, speed and loss in words

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` about the progress of every stage that runs inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Listener | None:
    """Who is told of progress made here, if anybody is."""
    return _listener.get()


@contextlib.contextmanager
def progress_of(label: str, samples: int | None = None) -> Iterator[Callable[..., None]]:
    """A function that a long stage calls with (done, in all) and, if it trains, the latest loss.

    `samples`: that one unit of what is done stands for, e.g. the batch size where iterations are counted.
    """
    yield _Telling(label, samples)


@contextlib.contextmanager
def progress_by_label() -> Iterator[Callable[[str, int, int], None]]:
    """A function that a stage of several parts calls with (label of the part, done, in all)."""
    tellers: dict[str, _Telling] = {}

    def report(label: str, done: int, total: int) -> None:
        tellers.setdefault(label, _Telling(label, None))(done, total)

    yield report


class Pace:
    """How fast work goes from its first report on: what a run that was killed did before counts for nothing."""

    def __init__(self):
        self._first: tuple[float, int] | None = None

    def rate(self, done: int, now: float) -> float | None:
        """Units per second; None until a second report."""
        if self._first is None:
            self._first = now, done
        since, before = self._first
        return (done - before) / (now - since) if now > since and done > before else None


def in_words(rate: float | None, samples: int | None, loss: float | None) -> str:
    """Speed and loss, as far as they are known."""
    parts = []
    if rate is not None:
        parts.append(f"{_figure(rate)}/s" if samples is None else f"{_figure(rate * samples)} samples/s")
    return ", ".join([*parts, *([] if loss is None else [f"loss {loss:.3f}"])])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


class _Telling:
    """Tells of one stage, or of one part of it."""

    def __init__(self, label: str, samples: int | None):
        self.label, self.samples, self.pace = label, samples, Pace()
        self.artifact, self.listener = None, _listener.get()
        self.shown = self.logged = time.monotonic()

    def __call__(self, done: int, total: int, loss: float | None = None) -> None:
        now = time.monotonic()
        rate = self.pace.rate(done, now)
        note = in_words(rate, self.samples, loss)
        if self.listener:
            self.listener(self.label, done, total, note)
        if TaskRunContext.get() is None:
            return
        left = f"{spoken((total - done) / rate)} left" if rate and done < total else ""
        said = ", ".join(filter(None, (f"{self.label}: {done:,} of {total:,}", note, left)))
        if now - self.logged >= LOG_SECONDS:
            self.logged = now
            get_run_logger().info(said)
        if now - self.shown >= ARTIFACT_SECONDS or (self.artifact and done == total):
            self.shown = now
            self._show(100 * done / max(1, total), said)

    def _show(self, percent: float, said: str) -> None:
        if self.artifact is None:
            self.artifact = create_progress_artifact(percent, description=said)
        else:
            update_progress_artifact(self.artifact, percent, description=said)
