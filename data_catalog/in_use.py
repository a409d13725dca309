"""Which runs are at work on a store, told by locks that the kernel drops with their holders, also after kill -9.

A run shares the lock file with the highest number. Housekeeping either has all of them to itself, and no run begins
until it is done; or it works beside runs, on what they can get back (`trash`), and opens a file with the next number
when it is done. No clock decides who came first.
"""

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from data_catalog import presence
from data_catalog.places import store_root
from data_catalog.store_files import make_folder

log = logging.getLogger(__name__)


@contextlib.contextmanager
def in_use() -> Iterator[None]:
    """Be a run that housekeeping does not disturb, for the block; waits while it has the store to itself.

    Runs on other machines, of a store in object storage, are told of it by `presence`.
    """
    with open(_file(_newest()), "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("housekeeping is at work on %s: waiting until it is done", store_root())
            fcntl.flock(lock, fcntl.LOCK_SH)
        with presence.at_work():
            yield


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    """Have the store without any run for the block: True, and none begins in it; False if some is at work."""
    _newest()
    with contextlib.ExitStack() as held:
        for number in _numbers():
            lock = held.enter_context(open(_file(number), "a"))
            if not takes(lock.fileno()):
                held.close()
                yield False
                return
        yield True


def is_in_use() -> bool:
    """Whether some run is at work on this machine, this process's own included."""
    with alone() as is_alone:
        return not is_alone


def has_ended_before(batch: int) -> bool:
    """Whether all runs that began before a batch of the trash was whole have ended."""
    for number in _numbers():
        if number < batch:
            with open(_file(number), "a") as lock:
                if not takes(lock.fileno()):
                    return False
    return True


def next_batch() -> int:
    """The number of the batch that housekeeping makes beside the runs of now."""
    return _newest() + 1


def close_batch(batch: int) -> None:
    """Let runs that begin from now on be later than `batch`, which is whole."""
    open(_file(batch), "a").close()


@contextlib.contextmanager
def sole_housekeeping() -> Iterator[None]:
    """Be the only housekeeping of this store; raises ValueError if another one is at work."""
    make_folder(store_root() / "running")
    with open(store_root() / "running" / "housekeeping.lock", "a") as lock:
        if not takes(lock.fileno()):
            raise ValueError(f"another `evergreen gc` is at work on {store_root()}; run it again when that is done")
        yield


def takes(descriptor: int) -> bool:
    """Whether the lock of an open file is free, and from now on this process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _newest() -> int:
    """The highest number; the first file is made where there is none."""
    make_folder(store_root() / "running")
    if not (known := _numbers()):
        close_batch(0)
        return 0
    return known[-1]


def _numbers() -> list[int]:
    names = (name.removesuffix(".lock") for name in os.listdir(store_root() / "running"))
    return sorted(int(name) for name in names if name.isdigit())


def _file(number: int) -> Path:
    return store_root() / "running" / f"{number}.lock"
