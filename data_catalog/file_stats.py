"""What a look at a file tells without opening it, the same for a local file and an object in a store."""

import os
import stat
import time
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple


class FileStat(NamedTuple):
    """What a look at a file without opening it tells."""

    size: int
    version: str  # changes when the bytes may have changed
    mtime_ns: int | None  # None where the version alone decides, as an entity tag does
    fault: str | None  # why the file must not be used, e.g. a link that leaves the root
    changed_ns: int | None = None  # when it last changed, by the clock of its store, which no author can set; if known


def local_stat(found: os.stat_result) -> FileStat:
    """Of a file on this machine: size, times of change and inode make its version.

    The time of the last change of its state tells of a rewrite whose author set the time of change back.
    """
    size, changed = found.st_size, found.st_mtime_ns
    fault = None if stat.S_ISREG(found.st_mode) else "is no plain file"
    version = f"{size}-{changed}-{found.st_ctime_ns}-{found.st_ino}"
    return FileStat(size, version, changed, fault, found.st_ctime_ns)


def remote_stat(info: dict[str, Any]) -> FileStat:
    """Of what a driver of fsspec tells: the entity tag makes the version, else the time of change.

    Without either the file counts as changed just now, so nobody trusts that it stayed as it was.
    """
    if info.get("type") == "directory":
        return faulty("is a folder")
    if info.get("size") is None:
        return faulty("has no size: its server does not tell")
    tag = next(
        (info[name] for name in ("ETag", "etag", "md5Hash", "generation", "Content-MD5") if info.get(name)), None
    )
    told = _time_of_change(info)
    if tag is not None:
        return FileStat(info["size"], f"{info['size']}-{str(tag).strip(chr(34))}", None, None, told)
    changed = time.time_ns() if told is None else told
    return FileStat(info["size"], f"{info['size']}-{changed}", changed, None, told)


def faulty(fault: str) -> FileStat:
    """Of something that must not be used, and why."""
    return FileStat(0, "none", None, fault)


def _time_of_change(info: dict[str, Any]) -> int | None:
    """In nanoseconds; None if the server does not tell."""
    names = ("LastModified", "last_modified", "Last-Modified", "mtime", "modified", "updated", "created")
    value = next((info[name] for name in names if info.get(name)), None)
    if isinstance(value, str):
        try:
            value = parsedate_to_datetime(value)
        except ValueError:
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return int(value.timestamp() * 1e9)
    return int(value * 1e9) if isinstance(value, int | float) else None
