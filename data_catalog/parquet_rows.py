"""Random access to rows of Parquet files that hold bytes: the columns of the row groups used last are kept.

A row group is the smallest part of a column that can be read, so files meant for random access have small ones: those
of 100 rows, as the Hub writes them, are read whole for a single image.
"""

import errno
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_catalog import files
from data_catalog.patience import patiently

_KEPT_BYTES = 256 * 1024 * 1024
_OPEN_FILES = 64
_THREADS = 8


class Row(NamedTuple):
    """A value in a Parquet file; dots in the name of the column lead into structs."""

    location: str
    column: str
    number: int


class _Group(NamedTuple):
    """One column of one row group, in the version of the file that was found."""

    location: str
    version: str
    column: str
    number: int


def read_rows(wanted: list[Row]) -> list[bytes]:
    """The bytes in some rows, each row group read once; none for a null.

    Raises ValueError if a file has no such column or row, or is no Parquet file, FileNotFoundError if it is gone.
    """
    versions = {location: _version(location) for location in dict.fromkeys(row.location for row in wanted)}
    members: dict[_Group, list[tuple[int, int]]] = {}  # which of `wanted` lie in a group, and at which of its rows
    for i, row in enumerate(wanted):
        group, within = _opened(row.location, versions[row.location], os.getpid()).group_of(row.number)
        key = _Group(row.location, versions[row.location], row.column, group)
        members.setdefault(key, []).append((i, within))
    results = [b""] * len(wanted)

    def fill(group: _Group) -> None:
        values = _kept(os.getpid()).get(group)
        for i, within in members[group]:
            results[i] = values[within].as_py() or b""

    if len(members) > 1:
        with ThreadPoolExecutor(min(_THREADS, len(members)), thread_name_prefix="row-groups") as pool:
            list(pool.map(fill, members))
    else:
        list(map(fill, members))
    return results


def look_again() -> None:
    """Forget which versions of remote files were found; those of local ones are looked at with every read."""
    _remote_version.cache_clear()


def columns_of(schema: pa.Schema, column: str) -> list[str]:
    """The names that lead to a column, more than one if it lies in a struct; nothing if there is none."""
    if column in schema.names:
        return [column]
    first, *inner = column.split(".")
    kind = schema.field(first).type if first in schema.names else None
    for name in inner:
        kind = kind.field(name).type if kind and pa.types.is_struct(kind) and kind.get_field_index(name) >= 0 else None
    return [] if kind is None else [first, *inner]


def leaf(values: pa.ChunkedArray, inner: list[str]) -> pa.ChunkedArray:
    """The values inside nested structs; a null struct has null in it."""
    return pc.struct_field(values, inner) if inner else values


def open_parquet(location: str) -> pq.ParquetFile:
    """A Parquet file with its metadata read; raises ValueError that names it if it is none."""
    try:
        with files.reaching(location):
            source = files.open_binary(location) if files.is_url(location) else location  # a path is read by position
            return patiently(lambda: pq.ParquetFile(source, pre_buffer=True), f"read {files.shown(location)}")
    except (PermissionError, FileNotFoundError, files.Unreachable):
        raise
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"cannot read {location}: {error}; expected a whole Parquet file") from error


class _Opened:
    """A Parquet file, where its row groups end, and the lock of its reader."""

    def __init__(self, location: str):
        self.location, self.lock = location, threading.Lock()
        self._file = open_parquet(location)
        counts = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._ends = np.cumsum(counts, dtype=np.int64)

    def group_of(self, number: int) -> tuple[int, int]:
        """The row group that holds a row, and its position inside."""
        group = int(np.searchsorted(self._ends, number, side="right"))
        if number < 0 or group == len(self._ends):
            raise ValueError(
                f"{self.location} has {self._file.metadata.num_rows} rows, row {number} was asked for; "
                "it changed since it was ingested: restore it or ingest it again"
            )
        return group, number - (int(self._ends[group - 1]) if group else 0)

    def read(self, column: str, group: int) -> pa.ChunkedArray:
        """One column of one row group."""
        schema = self._file.schema_arrow
        if not (path := columns_of(schema, column)):
            raise ValueError(f"{self.location} has no column {column!r}, found {schema.names}; ingest it again")
        with files.reaching(self.location):
            table = patiently(
                lambda: self._file.read_row_group(group, columns=[column], use_threads=False),
                f"read {files.shown(self.location)}",
            )
        return leaf(table[path[0]], path[1:])


class _KeptGroups:
    """The columns of the row groups used last, up to a number of bytes but at least one."""

    def __init__(self, limit: int):
        self._limit, self._size, self._lock = limit, 0, threading.Lock()
        self._columns: OrderedDict[_Group, pa.ChunkedArray] = OrderedDict()

    def get(self, group: _Group) -> pa.ChunkedArray:
        """The column of a row group, read if it is not among those kept."""
        if (column := self._known(group)) is not None:
            return column
        file = _opened(group.location, group.version, os.getpid())
        with file.lock:
            if (column := self._known(group)) is None:  # no other thread read it meanwhile
                column = file.read(group.column, group.number)
                self._keep(group, column)
        return column

    def _known(self, group: _Group) -> pa.ChunkedArray | None:
        with self._lock:
            if group in self._columns:
                self._columns.move_to_end(group)
            return self._columns.get(group)

    def _keep(self, group: _Group, column: pa.ChunkedArray) -> None:
        with self._lock:
            self._columns[group] = column
            self._size += column.nbytes
            while self._size > self._limit and len(self._columns) > 1:
                self._size -= self._columns.popitem(last=False)[1].nbytes


@lru_cache(maxsize=_OPEN_FILES)
def _opened(location: str, version: str, process: int) -> _Opened:
    return _Opened(location)


@lru_cache(maxsize=1)
def _kept(process: int) -> _KeptGroups:
    """The cache of this process: a fork begins anew, since a lock may have been held when it was made."""
    return _KeptGroups(_KEPT_BYTES)


def _version(location: str) -> str:
    return _remote_version(location) if files.is_url(location) else _found_version(location)


@lru_cache(maxsize=4096)
def _remote_version(location: str) -> str:
    return _found_version(location)


def _found_version(location: str) -> str:
    found = files.stat_one(location)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), location)
    return found.version
