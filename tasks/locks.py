"""Locks between threads and processes of one host that vanish with their holder, also after kill -9."""

import asyncio
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data_catalog.in_use import takes
from data_catalog.store_files import make_folder

POLL_SECONDS = 0.05


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` for the block; waits for whoever has it."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class FlockManager:
    """What Prefect asks of a lock manager, on one `flock`ed file per key in `folder()`.

    The kernel drops the lock with its last open descriptor, so nobody waits for the dead. `folder` is asked at every
    use because the home may change between import and call. Expiry (`hold_timeout`) is not needed and ignored.
    """

    def __init__(self, folder: Callable[[], Path]):
        self._folder = folder
        self._guard = threading.Lock()
        self._held: dict[Path, tuple[int, str]] = {}  # lock file -> descriptor, holder
        os.register_at_fork(after_in_child=self._forget)  # else a forked data worker keeps the lock of a killed parent

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Wait for the lock, at most `acquire_timeout` seconds; True once `holder` has it."""
        return self.is_lock_holder(key, holder) or _poll(lambda: self._try(key, holder), acquire_timeout)

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """As `acquire_lock`, off the event loop."""
        return await asyncio.to_thread(self.acquire_lock, key, holder, acquire_timeout)

    def release_lock(self, key: str, holder: str) -> None:
        """Give the lock back; raises ValueError if `holder` does not have it."""
        with self._guard:
            descriptor, owner = self._held.get(self._file(key), (None, None))
            if descriptor is None or owner != holder:
                raise ValueError(f"{holder} cannot release the lock of {key}: it is held by {owner or 'nobody here'}")
            del self._held[self._file(key)]
            os.close(descriptor)

    def is_locked(self, key: str) -> bool:
        """Whether anyone on this host has the lock."""
        return is_held(self._file(key))

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Whether `holder` took the lock in this process."""
        with self._guard:
            return self._held.get(self._file(key), (None, None))[1] == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until nobody has the lock, at most `timeout` seconds; False if somebody still has."""
        return _poll(lambda: not self.is_locked(key), timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """As `wait_for_lock`, off the event loop."""
        return await asyncio.to_thread(self.wait_for_lock, key, timeout)

    def _file(self, key: str) -> Path:
        return self._folder() / f"{key}.lock"

    def _try(self, key: str, holder: str) -> bool:
        descriptor = _open(self._file(key))
        if not takes(descriptor):
            os.close(descriptor)
            return False
        with self._guard:
            self._held[self._file(key)] = (descriptor, holder)
        return True

    def _forget(self) -> None:
        self._guard = threading.Lock()  # another thread may have held it at the fork
        for descriptor, _ in self._held.values():
            os.close(descriptor)
        self._held = {}


def is_held(path: Path) -> bool:
    """Whether some process has the lock file `path`."""
    descriptor = _open(path)
    try:
        return not takes(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    make_folder(path.parent)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _poll(claim: Callable[[], bool], timeout: float | None) -> bool:
    deadline = None if timeout is None else time.monotonic() + timeout
    while not claim():
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
