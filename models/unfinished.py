"""States of a step that is being trained, so that it goes on exactly where it stopped: the last two, written whole.

With a store in object storage they are brought there too, so that another machine can go on when this one is gone.
"""

import logging
import os
import shutil
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import IO

import torch

from data_catalog import remote_store
from data_catalog.outage import Outage
from data_catalog.places import store_root
from data_catalog.store_files import replacing

KEPT = 2  # the older one is for the day the newer one does not read
SHARE = 0.02  # of the time that saving may take, unless an interval is asked for

_DAMAGED = (OSError, RuntimeError, EOFError, ValueError, UnpicklingError)  # what torch raises for such a file
_log = logging.getLogger(__name__)


class SavedStates:
    """The stored states of one step; the key names everything that decides its result."""

    def __init__(self, key: str):
        self.folder = store_root() / "unfinished" / key
        self._there, self._key = remote_store.storage(), f"unfinished/{key}"

    def save(self, state: dict, iteration: int) -> None:
        """Store `state` after `iteration` iterations and drop all but the last two."""
        path = self.folder / f"{iteration:08d}.pt"
        with replacing(path) as temporary, open(temporary, "wb") as file:
            _write(state, file)
        for old in self._paths()[KEPT:]:
            old.unlink(missing_ok=True)
        if self._there is not None:
            self._share(path)

    def latest(self) -> dict | None:
        """The last state that reads, None if there is none."""
        names = {path.name for path in self._paths()} | {Path(key).name for key in self._shared()}
        for path in (self.folder / name for name in sorted(names, reverse=True)):
            try:
                self._bring(path)
                return torch.load(path, weights_only=True, map_location="cpu")
            except _DAMAGED as error:
                _log.warning("the state %s does not read (%s); going on from the one before it", path, error)
        return None

    def remove(self) -> None:
        """Forget the step, which is done."""
        shutil.rmtree(self.folder, ignore_errors=not self.folder.exists())  # with what a kill left half-written
        if self._there is not None:
            self._there.delete(self._shared())

    def size(self) -> int:
        """The bytes of the states there are."""
        return sum(path.stat().st_size for path in self._paths())

    def _share(self, path: Path) -> None:
        """Bring a state to where other machines find it; a service that is down does not end the training."""
        try:
            self._there.replace_from(f"{self._key}/{path.name}", path)
            self._there.delete(sorted(self._shared(), reverse=True)[KEPT:])
        except Outage as error:
            _log.warning("the state %s is on this machine only: %s", path, error)

    def _shared(self) -> list[str]:
        """The keys of the states in object storage."""
        return [] if self._there is None else [key for key in self._there.below(self._key) if key.endswith(".pt")]

    def _bring(self, path: Path) -> None:
        """Fetch a state that only object storage has."""
        if not path.is_file() and self._there is not None:
            with replacing(path) as temporary:
                self._there.fetch(f"{self._key}/{path.name}", temporary)

    def _paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob("[0-9]*.pt"), reverse=True)


class SaveClock:
    """When to save next: every so many seconds or iterations, whichever comes first; no result depends on it."""

    def __init__(self, seconds: float | None, iterations: int | None):
        given = os.environ.get("EVERGREEN_SAVE_SECONDS") if seconds is None else seconds
        self._every = float(given) if given is not None else 60.0
        self._bounded = given is None
        self._iterations = _count(os.environ.get("EVERGREEN_SAVE_ITERATIONS")) if iterations is None else iterations
        self._last, self._cost, self._since = time.monotonic(), 0.0, 0

    def tick(self) -> bool:
        """Whether it is time, after one more iteration."""
        self._since += 1
        wait = max(self._every, self._cost / SHARE) if self._bounded else self._every
        enough = self._iterations is not None and self._since >= self._iterations
        return enough or time.monotonic() - self._last >= wait

    def saved(self, seconds: float) -> None:
        """A save that took `seconds` was just done."""
        self._last, self._cost, self._since = time.monotonic(), seconds, 0


def _write(state: dict, file: IO[bytes]) -> None:
    """Raises the OSError of a file that cannot be written, which torch hides behind one of its own."""
    try:
        torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or int(text) == 0:
        raise ValueError(f"EVERGREEN_SAVE_ITERATIONS is {text!r}, expected a whole number of iterations, 1 or more")
    return int(text)
