"""A place in object storage, s3://, gs:// or az://: objects by key, created where there is none, or replaced whole.

Services differ in how they create only what is not there; their fsspec drivers agree to call it `mode="create"`
(s3: If-None-Match, gs: ifGenerationMatch 0, az: overwrite off). Endpoint and credentials come from the environment.
"""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from data_catalog.file_stats import FileStat, remote_stat
from data_catalog.files import absolute, driver_of, is_url, settings_of, shown
from data_catalog.outage import Outage
from data_catalog.patience import is_final, is_no_range, is_there_already, limit, patiently

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

SCHEMES = ("s3", "gs", "az")  # those whose drivers create conditionally
PART = 16 * 2**20  # bytes of one request; larger files travel in several at once
PARALLEL = 4  # requests of one large file
AT_ONCE = 16  # requests for small objects


@lru_cache(maxsize=8)
def _of_process(url: str, process: int) -> "ObjectStorage":
    return ObjectStorage(url)


def storage_at(url: str) -> "ObjectStorage":
    """The place behind a URL, one per process."""
    return _of_process(url, os.getpid())


def checked_url(url: str, name: str) -> str:
    """`url` without a slash at its end; raises ValueError unless it is one without secrets. `name`: where it is set."""
    scheme, _, rest = url.partition("://")
    if re.match(r"[^/]*:[^/]*@", rest) or "?" in rest:
        raise ValueError(
            f"{name} holds a secret ({shown(url)}): write the URL without it; access is set by {settings_of(url)}"
        )
    if scheme not in SCHEMES or not rest.strip("/"):
        raise ValueError(f"{name} is {url!r}, expected a folder, or a bucket such as s3://bucket/folder; "
                         f"known are {', '.join(f'{each}://' for each in SCHEMES)}")  # fmt: skip
    return url.rstrip("/")


def checked_place(text: str, name: str) -> str:
    """A folder or a URL, whole and without a slash at its end; raises ValueError as `checked_url` does."""
    return checked_url(text, name) if is_url(text) else absolute(text)


class ObjectStorage:
    """What lies below a URL, by keys relative to it.

    Every request is repeated while the service fails (`patience`); then Outage, in one line. PermissionError and a
    missing bucket are ValueError at once: waiting changes nothing.
    """

    def __init__(self, url: str):
        self.url = url
        self._is_checked, self._guard = False, threading.Lock()

    def find(self, key: str) -> bytes | None:
        """The bytes of a small object, None if there is none."""
        data = self._range(key, 0, PART)  # asked for whole, a driver would look at it first
        return data if data is None or len(data) < PART else self._range(key, None, None)

    def stat(self, key: str) -> FileStat | None:
        """Size and time of change by the clock of the service; None if there is no such object."""
        with contextlib.suppress(FileNotFoundError):
            info = self._ask("look at", key, lambda driver, path: driver.info(path))
            return None if info.get("type") == "directory" else remote_stat(info)
        return None

    def below(self, folder: str) -> dict[str, FileStat]:
        """Every object whose key begins with `folder/`, sorted; all of them for an empty one."""
        root = self._path(folder)

        def listed(driver: "AbstractFileSystem", path: str) -> dict[str, dict]:
            return driver.find(path, detail=True)

        base = driver_of(self.url)._strip_protocol(root).rstrip("/") + "/"
        try:
            found = self._ask("list", folder, listed)
        except FileNotFoundError:
            return {}
        return {
            f"{folder}/{name.removeprefix(base)}".lstrip("/"): remote_stat(info)
            for name, info in sorted(found.items()) if name.startswith(base) and name != base
        }  # fmt: skip

    def create(self, key: str, data: bytes) -> bool:
        """Make an object unless there is one under its key; False if there is.

        After a failure that was none, such as an answer that got lost, False may tell of our own object.
        """
        return self._created(key, lambda driver, path: driver.pipe_file(path, data, mode="create"))

    def create_from(self, key: str, file: Path) -> bool:
        """As `create`, from a file, in parts if it is large."""
        return self._created(key, partial(self._put, file=file, mode="create"))

    def replace(self, key: str, data: bytes) -> None:
        """Make `data` the object under a key."""
        self._ask("write", key, lambda driver, path: driver.pipe_file(path, data))

    def replace_from(self, key: str, file: Path) -> None:
        """As `replace`, from a file."""
        self._ask("write", key, partial(self._put, file=file, mode="overwrite"))

    def fetch(self, key: str, file: Path) -> bool:
        """Write an object to a file, in ranges at the same time if it is large; False if there is none."""
        first = self._range(key, 0, PART)
        if first is None:
            return False
        with open(file, "wb", buffering=0) as opened:
            _write_at(opened.fileno(), first, 0)
            if len(first) == PART and (found := self.stat(key)) is not None:
                parts = [(start, min(start + PART, found.size)) for start in range(PART, found.size, PART)]

                def take(part: tuple[int, int]) -> None:
                    _write_at(opened.fileno(), self._whole_range(key, *part), part[0])

                with ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch") as pool:
                    list(pool.map(take, parts))
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that are not there are gone already."""

        def remove(key: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._ask("delete", key, lambda driver, path: driver.rm_file(path))

        self.each(remove, keys)

    def each(self, function: Callable[[str], T], keys: Iterable[str]) -> list[T]:
        """What a function gives for keys, many asked for at the same time."""
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="objects") as pool:
            return list(pool.map(function, keys))

    def _created(self, key: str, make: Callable) -> bool:
        try:
            self._ask("create", key, make)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise self._no_bucket() from error
        return True

    def _put(self, driver: "AbstractFileSystem", path: str, file: Path, mode: str) -> None:
        if path.startswith("s3://"):  # its driver would hold 500 MB of parts in memory
            driver.put_file(str(file), path, chunksize=_part_of(file), max_concurrency=PARALLEL, mode=mode)
        else:
            driver.put_file(str(file), path, mode=mode)

    def _range(self, key: str, start: int | None, end: int | None) -> bytes | None:
        try:
            return self._ask("read", key, lambda driver, path: driver.cat_file(path, start=start, end=end))
        except FileNotFoundError:
            return None
        except OSError as error:
            if is_no_range(error):  # of an empty object
                return b""
            raise

    def _whole_range(self, key: str, start: int, end: int) -> bytes:
        def read(driver: "AbstractFileSystem", path: str) -> bytes:
            data = driver.cat_file(path, start=start, end=end)
            if len(data) != end - start:
                raise OSError(f"{len(data)} bytes came of {end - start}")
            return data

        return self._ask("read", key, read)

    def _ask(self, deed: str, key: str, ask: Callable[["AbstractFileSystem", str], T]) -> T:
        """Carry out `ask` on the driver and the path of a key; raises Outage, or ValueError for what is set wrong."""
        self._require_bucket()
        path = self._path(key)
        with self._telling(deed, path):
            return patiently(lambda: ask(driver_of(self.url), path), f"{deed} {path}")

    def _require_bucket(self) -> None:
        with self._guard:
            if self._is_checked:
                return
            bucket = self._bucket()
            with self._telling("look at", bucket):
                try:
                    patiently(lambda: driver_of(self.url).info(bucket), f"look at {bucket}")
                except FileNotFoundError as error:
                    raise self._no_bucket() from error
            self._is_checked = True

    def _no_bucket(self) -> ValueError:
        return ValueError(
            f"there is no bucket {self._bucket()}: make it, or mend EVERGREEN_STORE or EVERGREEN_RESULTS; "
            f"access is set by {settings_of(self.url)}"
        )

    def _bucket(self) -> str:
        return "/".join(self.url.split("/")[:3])

    @contextlib.contextmanager
    def _telling(self, deed: str, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, FileExistsError, ValueError, TypeError, AttributeError, Outage):
            raise
        except PermissionError as error:
            raise ValueError(
                f"may not {deed} {path}: {_one_line(error)}; access is set by {settings_of(self.url)}"
            ) from error
        except Exception as error:  # each driver has its own classes, not all of them OSError
            if is_there_already(error):
                raise FileExistsError(path) from error
            if is_no_range(error):
                raise
            tried = "" if is_final(error) else f" for {limit():g} s (EVERGREEN_STORE_PATIENCE)"
            raise Outage(
                f"cannot {deed} {path}: {type(error).__name__}: {_one_line(error)}; tried{tried}: look after the "
                f"service and its settings ({settings_of(self.url)}), then run the same command again, which goes on"
            ) from error

    def _path(self, key: str) -> str:
        return f"{self.url}/{key}" if key else self.url


def _part_of(file: Path) -> int:
    """The size of parts: a service takes at most ten thousand of one file."""
    return max(PART, -(-file.stat().st_size // 9000))


def _write_at(descriptor: int, data: bytes, start: int) -> None:
    text = memoryview(data)
    while text:
        written = os.pwrite(descriptor, text, start)
        text, start = text[written:], start + written


def _one_line(error: Exception) -> str:
    return re.sub(r"\?[^\s'\"]+", "?...", " ".join(str(error).split()))[:300]
