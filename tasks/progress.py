"""How far a long stage is: a progress artifact in the Prefect UI, and whoever listens in this process."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext

ARTIFACT_SECONDS = 5.0  # between two updates of an artifact: each is a request to the server

Listener = Callable[[str, int, int, float | None], None]  # label, done, in all, latest loss if there is one

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell `listener` about the progress of every stage that runs inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextlib.contextmanager
def progress_of(label: str) -> Iterator[Callable[..., None]]:
    """A function that a long stage calls with (done, in all) and, if it trains, the latest loss."""
    yield _teller(label)


@contextlib.contextmanager
def progress_by_label() -> Iterator[Callable[[str, int, int], None]]:
    """A function that a stage of several parts calls with (label of the part, done, in all)."""
    tellers: dict[str, Callable[..., None]] = {}

    def report(label: str, done: int, total: int) -> None:
        if label not in tellers:
            tellers[label] = _teller(label)
        tellers[label](done, total)

    yield report


def _teller(label: str) -> Callable[..., None]:
    artifact, told, listener = None, time.monotonic(), _listener.get()

    def report(done: int, total: int, loss: float | None = None) -> None:
        nonlocal artifact, told
        if listener:
            listener(label, done, total, loss)
        if TaskRunContext.get() is None or (
            time.monotonic() - told < ARTIFACT_SECONDS and not (artifact and done == total)
        ):
            return
        told, percent = time.monotonic(), 100 * done / max(1, total)
        description = label if loss is None else f"{label}, loss {loss:.3f}"
        if artifact is None:
            artifact = create_progress_artifact(percent, description=description)
        else:
            update_progress_artifact(artifact, percent, description=description)

    return report
