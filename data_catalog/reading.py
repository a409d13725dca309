"""Reading image bytes by position from where they lie: plain files, tars, objects in a store, rows of Parquet files."""

import hashlib
from typing import NamedTuple

import pyarrow as pa

from data_catalog import files, parquet_rows, places

_IN_PARQUET = ".parquet::"  # between the name of a file and that of its column


def read_sample(shard: str, offset: int, length: int, hash: bytes | None) -> bytes:
    """The bytes of one image; raises ValueError naming shard and place if they are not those that were ingested.

    `shard`: `<source>/<path>`, or `<source>/<path>.parquet::<column>` with the row number as `offset`; `hash`: their
    SHA-256, None where the source was indexed without reading them.
    """
    return _read([_Place(shard, offset, length, hash)])[0]


def read_samples(rows: pa.Table) -> list[bytes]:
    """The images of rows with columns shard, offset, length and hash, in their order; as `read_sample`.

    Remote neighbours share a request, requests run at the same time, and a row group is read once for all its rows.
    """
    return _read([_Place(*row) for row in zip(*(rows[name].to_pylist() for name in _Place._fields), strict=True)])


class _Place(NamedTuple):
    """Where a sample lies, and its SHA-256 as far as known."""

    shard: str
    offset: int
    length: int
    hash: bytes | None

    @property
    def is_row(self) -> bool:
        """Whether `offset` is the row of a Parquet file."""
        return _IN_PARQUET in self.shard


def _read(wanted: list[_Place]) -> list[bytes]:
    blobs = _bytes_at(wanted)
    faults = [_fault(data, place) for data, place in zip(blobs, wanted, strict=True)]
    if any(fault and place.is_row for fault, place in zip(faults, wanted, strict=True)):
        parquet_rows.look_again()  # what is kept of a remote file may be older than the ingest
        blobs = _bytes_at(wanted)
        faults = [_fault(data, place) for data, place in zip(blobs, wanted, strict=True)]
    for fault, place in zip(faults, wanted, strict=True):
        if fault:
            where = f"row {place.offset}" if place.is_row else f"byte {place.offset}"
            raise ValueError(
                f"{place.shard} changed since it was ingested: at {where} {fault}; restore the file or ingest it again"
            )
    return blobs


def _bytes_at(wanted: list[_Place]) -> list[bytes]:
    located = {shard: places.locate_shard(shard) for shard in dict.fromkeys(place.shard for place in wanted)}
    rows = [i for i, place in enumerate(wanted) if place.is_row]
    ranges = [i for i, place in enumerate(wanted) if not place.is_row]
    blobs = [b""] * len(wanted)
    try:
        for i, data in zip(rows, parquet_rows.read_rows([_row(wanted[i], located) for i in rows]), strict=True):
            blobs[i] = data
        for i, data in zip(ranges, files.read_ranges([_range(wanted[i], located) for i in ranges]), strict=True):
            blobs[i] = data
    except files.Unreachable:
        raise
    except OSError as error:
        raise ValueError(_unreadable(error)) from error
    return blobs


def _row(place: _Place, located: dict[str, str]) -> parquet_rows.Row:
    stem, _, column = located[place.shard].rpartition(_IN_PARQUET)
    return parquet_rows.Row(f"{stem}.parquet", column, place.offset)


def _range(place: _Place, located: dict[str, str]) -> files.Range:
    return files.Range(located[place.shard], place.offset, place.length)


def _fault(data: bytes, place: _Place) -> str | None:
    if len(data) != place.length:
        return f"expected {place.length} bytes, found {len(data)}"
    if place.hash is None or hashlib.sha256(data).digest() == place.hash:
        return None
    return f"expected SHA-256 {place.hash.hex()[:16]}, found {hashlib.sha256(data).hexdigest()[:16]}"


def _unreadable(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{error.filename} is gone since it was ingested: restore it, or set EVERGREEN_SOURCES to its new root"
    return f"cannot read {error.filename}: {error.strerror or error}; look after the disk or its mount"
