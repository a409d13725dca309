"""Room on the disk: how much there is, how much of it is not to be used, and what is said when there is none."""

import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from data_catalog.outage import Outage

log = logging.getLogger(__name__)

RESERVE = "1 GB"  # that steps leave free, unless EVERGREEN_DISK_RESERVE says otherwise
FEW = 3  # steps for which there is still room: time to say so
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskFull(Outage):
    """There is no room for what is to be written; nothing of it was stored."""


@contextlib.contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Errors of a full disk inside the block become DiskFull, which names `folder`."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise DiskFull(
            f"no room is left in {folder} ({os.strerror(error.errno)}): what was being written is not stored, all else "
            "is; make room, e.g. with `evergreen gc --all`, and run the same command again"
        ) from error


def is_full(error: OSError) -> bool:
    """Whether an error says that a disk, a quota or a limit is used up."""
    return error.errno in _FULL


def require_room(needed: int, left_after: int, folder: Path, what: str) -> None:
    """Raise DiskFull unless `needed` bytes and the reserve fit in `folder`; warn if soon they will not.

    `left_after`: bytes of `needed` that stay when `what` is done, and are needed again by each of its kind.
    """
    free, kept_free = free_bytes(folder), reserve()
    if free < needed + kept_free:
        raise DiskFull(
            f"{what} needs about {spoken(needed)}, but {spoken(free)} are free in {folder}, of which "
            f"{spoken(kept_free)} stay free (EVERGREEN_DISK_RESERVE): make room, e.g. with `evergreen gc --all`, and "
            "run the same command again; nothing was begun"
        )
    more = (free - needed - kept_free) // max(1, left_after)
    if more < FEW:
        log.warning(
            "%s are free in %s: room for %s and %d more like it, each of which leaves %s; `evergreen gc --all "
            "--dry-run` says what could go", spoken(free), folder, what, more, spoken(left_after),
        )  # fmt: skip


def free_bytes(folder: Path) -> int:
    """What this user may still write where `folder` is or will be."""
    return shutil.disk_usage(nearest(folder)).free


def nearest(folder: Path) -> Path:
    """The folder, or the one above it that there is."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def reserve() -> int:
    """The bytes that steps leave free (EVERGREEN_DISK_RESERVE, such as 20 GB); raises ValueError."""
    return bytes_in("EVERGREEN_DISK_RESERVE", RESERVE)


def bytes_in(name: str, default: str) -> int:
    """The bytes that a variable of the environment says, such as 20 GB; raises ValueError."""
    given = os.environ.get(name, default)
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", given.upper())
    if not found or found[2] not in UNITS:
        raise ValueError(f"{name} is {given!r}, expected bytes such as 500 MB or 20 GB")
    return int(float(found[1]) * UNITS[found[2]])


def spoken(size: int) -> str:
    """Bytes as people read them."""
    unit = next((unit for unit in ("TB", "GB", "MB") if size >= UNITS[unit]), "KB")
    return f"{size / UNITS[unit]:.1f} {unit}"
