"""Files by location, a local path or an object-storage URL: what lies below a folder, and bytes by position."""

import os
import stat
from pathlib import Path
from typing import IO, NamedTuple


class FileStat(NamedTuple):
    """What a look at a file without opening it tells."""

    size: int
    version: str  # changes when the bytes may have changed
    mtime_ns: int | None  # None where the store has no such clock
    fault: str | None  # why the file must not be used, e.g. a link that leaves the root


def is_url(location: str) -> bool:
    """Whether a location is an object-storage URL such as s3://bucket/folder; a bare path and file:// are local."""
    return "://" in location and not location.startswith("file://")


def join(root: str, relative: str) -> str:
    """The location of a file below `root`."""
    return f"{root.rstrip('/')}/{relative}"


def stat_below(root: str) -> dict[str, FileStat]:
    """Every file below `root` by its name relative to it, sorted; hidden files are left out."""
    folder = Path(root)
    found = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names if not name.startswith(".")]
    return {path.relative_to(folder).as_posix(): _stat(path, folder) for path in sorted(found)}


def stat_one(location: str) -> FileStat | None:
    """The stat of one file, None if there is none."""
    path = Path(location)
    return _stat(path, path.parent) if path.exists() else None


def read_range(location: str, offset: int, length: int) -> bytes:
    """Up to `length` bytes of a file from `offset`; fewer if it ends before."""
    with open(location, "rb", buffering=0) as file:
        return os.pread(file.fileno(), length, offset)


def read_all(location: str) -> bytes:
    """All bytes of a file."""
    return Path(location).read_bytes()


def open_binary(location: str) -> IO[bytes]:
    """A file opened for reading, seekable."""
    return open(location, "rb")


def _stat(path: Path, root: Path) -> FileStat:
    try:
        found = path.stat()
    except OSError as error:
        return FileStat(0, "none", None, f"cannot be looked at: {error.strerror}")
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return FileStat(found.st_size, "none", None, "is a link that leaves the folder")
    if not stat.S_ISREG(found.st_mode):
        return FileStat(found.st_size, "none", None, "is no plain file")
    version = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
    return FileStat(found.st_size, version, found.st_mtime_ns, None)
