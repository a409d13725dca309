"""Files by location, a local path or an object-storage URL: what lies below a folder, and bytes by position.

URLs go through fsspec, whose drivers take endpoint and credentials from the environment. Requests that a store refuses
for the moment are repeated with longer pauses (`patience`); what still fails then is raised as Unreachable.
"""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from data_catalog.file_stats import FileStat, faulty, local_stat, remote_stat
from data_catalog.folders import files_below
from data_catalog.patience import is_final, patiently

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_DRIVERS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "azure", "abfs": "azure", "abfss": "azure"}
_SETTINGS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for a store that is not Amazon's, AWS_ENDPOINT_URL",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "azure": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_GAP = 64 * 1024  # bytes between two ranges that are cheaper to read than to ask again
_LONGEST = 16 * 1024 * 1024  # of one request, so that large reads run in parallel
_OPEN_FILES = 128


class Unreachable(OSError, ValueError):
    """A store or a file in it cannot be read; the message names the URL without secrets, and what to set."""


class Range(NamedTuple):
    """Some bytes of a file."""

    location: str
    offset: int
    length: int


def is_url(location: str) -> bool:
    """Whether a location is an object-storage URL such as s3://bucket/folder; a bare path and file:// are local."""
    return "://" in location and not location.startswith("file://")


def absolute(location: str) -> str:
    """A location that does not depend on the working directory, without a slash at its end."""
    if is_url(location):
        return location.rstrip("/")
    return str(Path(location.removeprefix("file://")).expanduser().resolve())


def join(root: str, relative: str) -> str:
    """The location of a file below `root`."""
    return f"{root.rstrip('/')}/{quote(relative, safe='/:') if root.startswith('http') else relative}"


def stat_below(root: str) -> dict[str, FileStat]:
    """Every file below `root` by its name relative to it, sorted; hidden files and folders are left out.

    Links inside the root are followed; those that dangle, turn in circles or leave the root get a fault. Nothing at
    all if there is no such folder; raises ValueError if it cannot be listed.
    """
    found = _remote_below(root) if is_url(root) else files_below(absolute(root))
    return dict(sorted(found.items()))


def stat_one(location: str) -> FileStat | None:
    """The stat of one file, None if there is none."""
    if is_url(location):
        with reaching(location):
            try:
                return remote_stat(patiently(lambda: driver_of(location).info(location), f"look at {shown(location)}"))
            except FileNotFoundError:
                return None
    path = Path(location)
    if not path.exists():
        return faulty("is a link to nothing") if path.is_symlink() else None
    return local_stat(path.stat())


def read_range(location: str, offset: int, length: int) -> bytes:
    """Up to `length` bytes of a file from `offset`; fewer if it ends before."""
    if is_url(location):
        return read_ranges([Range(location, offset, length)])[0]
    if offset:  # one of many in a large file
        return _opened(location, *_identity(os.stat(location))).read(offset, length)
    descriptor = os.open(location, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, length, 0)
    finally:
        os.close(descriptor)


def read_ranges(wanted: list[Range]) -> list[bytes]:
    """Many ranges at once; remote neighbours share a request, and requests of one store run at the same time."""
    results: dict[Range, bytes] = {}
    remote: dict[str, list[Range]] = {}
    for each in dict.fromkeys(wanted):
        if is_url(each.location):
            remote.setdefault(each.location.partition("://")[0], []).append(each)
        else:
            results[each] = read_range(*each)
    for of_one_store in remote.values():
        results |= _read_remote(of_one_store)
    return [results[each] for each in wanted]


def read_all(location: str) -> bytes:
    """All bytes of a file."""
    if not is_url(location):
        return Path(location).read_bytes()
    with reaching(location):
        return patiently(lambda: driver_of(location).cat_file(location), f"read {shown(location)}")


def open_binary(location: str) -> IO[bytes]:
    """A file opened for reading, seekable; reads of a remote one belong inside `reaching`."""
    if not is_url(location):
        return open(location, "rb")
    if location.startswith("memory://"):
        return io.BytesIO(read_all(location))  # its driver hands out one handle for all readers
    with reaching(location):
        return patiently(lambda: driver_of(location).open(location, "rb"), f"open {shown(location)}")


def copy_to(location: str, path: Path) -> None:
    """Write a remote file to a local one, in one go where a store would be asked for thousands of small parts."""
    with reaching(location):
        patiently(lambda: driver_of(location).get_file(location, str(path)), f"read {shown(location)}")


@contextlib.contextmanager
def reaching(location: str) -> Iterator[None]:
    """Whatever a driver raises inside becomes Unreachable, which names the URL and the settings that decide."""
    if not is_url(location):
        yield
        return
    try:
        yield
    except Unreachable:
        raise
    except Exception as error:  # each driver has its own classes, not all of them OSError
        raise _unreachable(location, error) from (error if shown(location) == location else None)


def _unreachable(location: str, error: Exception) -> Unreachable:
    settings = settings_of(location)
    said = re.sub(r"\?[^\s'\"]+", "?...", str(error).replace(location, shown(location)))
    kind = "there is no such bucket or file" if isinstance(error, FileNotFoundError) else type(error).__name__
    help = f"; access is set by {settings} in the environment" if settings else ""
    return Unreachable(f"cannot read {shown(location)}: {kind}: {said[:300]}{help}")


def settings_of(location: str) -> str:
    """The names in the environment that decide about access to a URL; empty for a service that we do not know."""
    return _SETTINGS.get(_DRIVERS.get(location.partition("://")[0], ""), "")


def shown(location: str) -> str:
    """A URL without user, password and signature."""
    return re.sub(r"//[^/@]*:[^/@]*@", "//...@", re.sub(r"\?.*", "?...", location, flags=re.DOTALL))


def driver_of(location: str) -> "AbstractFileSystem":
    """The driver of a URL, one per process (fsspec keeps it, also across forks); listings are never remembered."""
    import fsspec

    protocol = location.partition("://")[0]
    try:
        driver = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        extra = f"evergreen[{_DRIVERS[protocol]}]" if protocol in _DRIVERS else "aiohttp"
        raise Unreachable(f"{shown(location)} needs a driver that is missing: pip install '{extra}'") from error
    except ValueError as error:
        raise Unreachable(f"{shown(location)}: no driver for {protocol}://, expected one of {[*_DRIVERS]}") from error
    with reaching(location):  # settings may be missing
        return driver(use_listings_cache=False)


def _remote_below(root: str) -> dict[str, FileStat]:
    if root.startswith("http"):
        raise ValueError(f"{shown(root)} cannot be listed: name its files in a manifest or as shards {{000..123}}.tar")
    filesystem = driver_of(root)
    base = filesystem._strip_protocol(root).rstrip("/") + "/"
    with reaching(root):
        found = patiently(lambda: filesystem.find(root, detail=True), f"list {shown(root)}")
    inside = {name.removeprefix(base): info for name, info in found.items() if name.startswith(base)}
    return {
        name: remote_stat(info)
        for name, info in inside.items()
        if name and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/"))
    }


def _read_remote(wanted: list[Range]) -> dict[Range, bytes]:
    requests = _joined(wanted)
    with reaching(wanted[0].location):
        answers = _answers(list(requests))
    results = {}
    for request, answer in answers.items():
        with reaching(request.location):
            data = _bytes_of(answer)
            if len(data) > request.length:
                raise OSError("the server ignores byte ranges: it answered with more than was asked for")
        for each in requests[request]:
            start = each.offset - request.offset
            results[each] = data[start : start + each.length]
    return results


def _answers(requests: list[Range]) -> dict[Range, bytes | Exception]:
    """What a store answers, errors that asking again does not change among it; failed ones alone are asked again."""
    filesystem, answers = driver_of(requests[0].location), {}

    def ask() -> None:
        open_ones = [request for request in requests if request not in answers]
        paths, starts, ends = zip(*((r.location, r.offset, r.offset + r.length) for r in open_ones), strict=True)
        found = filesystem.cat_ranges(list(paths), list(starts), list(ends), on_error="return")
        failed = {r: a for r, a in zip(open_ones, found, strict=True) if isinstance(a, Exception) and not is_final(a)}
        answers.update({r: a for r, a in zip(open_ones, found, strict=True) if r not in failed})
        if failed:
            raise next(iter(failed.values()))

    patiently(ask, f"read {len(requests)} ranges such as one of {shown(requests[0].location)}")
    return answers


def _bytes_of(answer: bytes | Exception) -> bytes:
    if not isinstance(answer, Exception):
        return answer
    if "InvalidRange" in str(answer) or "not satisfiable" in str(answer):
        return b""  # the file ends before the range begins
    raise answer


def _joined(wanted: list[Range]) -> dict[Range, list[Range]]:
    """Requests that cover the ranges, each with those it covers; neighbours with a small gap become one."""
    requests: dict[Range, list[Range]] = {}
    last: Range | None = None
    for each in sorted(wanted):
        end = each.offset + each.length
        if last and last.location == each.location and each.offset <= last.offset + last.length + _GAP:
            longer = last._replace(length=max(last.length, end - last.offset))
            if longer.length <= _LONGEST:
                requests[longer] = [*requests.pop(last), each]
                last = longer
                continue
        requests[last := each] = [each]
    return requests


class _Descriptor:
    """An open file that closes with its last user, so that dropping it from the cache disturbs no reader.

    `pread` has no position, so threads and forked processes may share it.
    """

    def __init__(self, path: str):
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        """As `read_range`; `self` keeps the file open until the bytes are there."""
        return os.pread(self._number, length, offset)

    def __del__(self):
        if hasattr(self, "_number"):
            os.close(self._number)


@lru_cache(maxsize=_OPEN_FILES)
def _opened(path: str, inode: int, mtime_ns: int, size: int) -> _Descriptor:
    return _Descriptor(path)


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_size
