"""How far a long stage is: a progress artifact in the Prefect UI, and whoever listens in this process."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext

ARTIFACT_SECONDS = 5.0  # between two updates of an artifact: each is a request to the server

Listener = Callable[[str, int, int, float], None]  # label, done, in all, latest loss

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
def progress_of(label: str) -> Iterator[Callable[[int, int, float], None]]:
    """A function that a long stage calls with (done, in all, latest loss)."""
    artifact, told, listener = None, time.monotonic(), _listener.get()

    def report(done: int, total: int, loss: float) -> None:
        nonlocal artifact, told
        if listener:
            listener(label, done, total, loss)
        if TaskRunContext.get() is None or (
            time.monotonic() - told < ARTIFACT_SECONDS and not (artifact and done == total)
        ):
            return
        told, percent = time.monotonic(), 100 * done / total
        if artifact is None:
            artifact = create_progress_artifact(percent, description=f"{label}, loss {loss:.3f}")
        else:
            update_progress_artifact(artifact, percent, description=f"{label}, loss {loss:.3f}")

    yield report
