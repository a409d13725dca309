"""What this machine keeps of a store in object storage: as many bytes as are allowed, what was used last stays longest.

The time of access of a kept file is that of its last use, set here; its time of change stays, so that it is not hashed
again. A file that is deleted while a process has it open or mapped lives on for that process.
"""

import contextlib
import logging
import os
import threading
import time
from functools import lru_cache
from pathlib import Path

from data_catalog import in_use
from data_catalog.disk import bytes_in, spoken
from data_catalog.places import store_root

log = logging.getLogger(__name__)

SIZE = "50 GB"  # unless EVERGREEN_STORE_CACHE_SIZE says otherwise
AT_WORK_SECONDS, BRIEFLY = 3600.0, 60.0  # how long what was used stays for sure, beside runs and without any
LEFT = 0.9  # of the size, after something had to go


def used(path: Path) -> None:
    """Note that a kept file is used now."""
    with contextlib.suppress(FileNotFoundError, PermissionError):  # let go at this moment; or another user's cache
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def grown(size: int) -> None:
    """Note that so many bytes came; what was not used for the longest goes if that is too much."""
    folder = store_root() / "objects"
    book = _book(os.getpid())
    with book.guard:
        known = book.sizes.get(folder)
        book.sizes[folder] = known + size if known is not None else _taken(folder)
        if book.sizes[folder] > allowed():
            book.sizes[folder] = _make_room(folder)


def allowed() -> int:
    """The bytes that may be kept (EVERGREEN_STORE_CACHE_SIZE, such as 50 GB); raises ValueError."""
    return bytes_in("EVERGREEN_STORE_CACHE_SIZE", SIZE)


class _Book:
    """The bytes in each cache as of the last look, and what this process added since."""

    def __init__(self):
        self.guard, self.sizes = threading.Lock(), {}


@lru_cache(maxsize=1)
def _book(process: int) -> _Book:
    """A fork begins anew, since the lock may have been held when it was made."""
    return _Book()


def _make_room(folder: Path) -> int:
    """Delete what was not used for the longest, but nothing that a run may have at hand; how much is left."""
    found, limit = sorted(_files(folder)), allowed()
    taken = sum(size for _, size, _ in found)
    stays_from = time.time() - (AT_WORK_SECONDS if in_use.is_in_use() else BRIEFLY)
    for at, size, path in found if taken > limit else ():
        if taken <= LEFT * limit or at > stays_from:
            break
        path.unlink(missing_ok=True)
        taken -= size
    if taken > limit:
        log.warning(
            "the cache %s holds %s, more than the %s it may (EVERGREEN_STORE_CACHE_SIZE): all of it was used just now",
            folder.parent, spoken(taken), spoken(limit),
        )  # fmt: skip
    return taken


def _taken(folder: Path) -> int:
    return sum(size for _, size, _ in _files(folder))


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of the last use, bytes and path of what is kept."""
    found = []
    for path in folder.glob("??/*"):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            found.append((stat.st_atime, stat.st_size, path))
    return found
