"""Reading and checking images that are new or changed, in threads, with what was found kept as it is found."""

import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa

from data_catalog import files, places, reading
from data_catalog.inspection_memory import FINDINGS, OUTCOMES, KnownBytes, Memory
from data_catalog.quarantine import CODES
from data_catalog.sources.images import Fault, examine

if TYPE_CHECKING:
    from data_catalog.sources.base import Progress, Source  # which import this module

FLUSH_SECONDS = 5.0  # at most so much work is lost when an ingest is killed
UNIT = 32  # images that a thread reads in one go
UNIT_BYTES = 2**25  # of their encoded bytes, unless one image alone has more
UNITS_AT_ONCE = 64  # what is waited for together: bounds what lies in memory, and how often progress is told

_PLACE = ("shard", "offset", "length")


def inspect(
    rows: pa.Table, asked: pa.Table, source: "Source", known: KnownBytes, memory: Memory, progress: "Progress | None"
) -> pa.Table:
    """The outcome (OUTCOMES) of every row (CANDIDATES); `asked`: the rows of OUTCOMES still without findings."""
    kept, waiting = [], []
    flushed, done = time.monotonic(), 0

    def flush() -> None:
        kept.extend(waiting)
        fresh = pa.concat_tables([OUTCOMES.empty_table(), *waiting])
        memory.add(_lasting(fresh))
        waiting.clear()

    try:
        for found in _in_order(rows, source, known):
            waiting.append(_with_findings(asked.slice(done, len(found)), found))
            done += len(found)
            if time.monotonic() - flushed > FLUSH_SECONDS:
                flush()
                flushed = time.monotonic()
            if progress:
                progress(f"inspect {memory.dataset}", done, rows.num_rows)
    finally:
        flush()  # also when interrupted
    return pa.concat_tables([OUTCOMES.empty_table(), *kept])


def _in_order(rows: pa.Table, source: "Source", known: KnownBytes) -> Iterator[list[dict]]:
    """Findings of the rows in their order, some at a time."""
    units = _units(rows)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for at in range(0, len(units), UNITS_AT_ONCE):
            found = pool.map(lambda unit: _findings(unit, source, known), units[at : at + UNITS_AT_ONCE])
            yield [finding for unit in found for finding in unit]


def _units(rows: pa.Table) -> list[pa.Table]:
    """The rows in pieces of at most UNIT images and, where there are several, UNIT_BYTES."""
    units, start, size = [], 0, 0
    for at, length in enumerate(rows["length"].to_pylist()):
        if at > start and (at - start == UNIT or size + length > UNIT_BYTES):
            units.append(rows.slice(start, at - start))
            start, size = at, 0
        size += length
    return [*units, rows.slice(start)] if rows.num_rows else []


def _findings(unit: pa.Table, source: "Source", known: KnownBytes) -> list[dict]:
    try:
        blobs = reading.read_samples(unit.select(_PLACE).append_column("hash", pa.nulls(unit.num_rows, pa.binary(32))))
    except (OSError, ValueError):  # one of them: find out which
        blobs = [_bytes_or_error(row, source) for row in unit.select(_PLACE).to_pylist()]
    return [_finding(blob, known) if isinstance(blob, bytes) else _fault("unreadable", blob) for blob in blobs]


def _bytes_or_error(row: dict, source: "Source") -> bytes | str:
    """The bytes, or one line on why there are none that is the same wherever the source lies."""
    try:
        return reading.read_sample(**row, hash=None)
    except (OSError, ValueError) as error:
        if isinstance(error, files.Unreachable):  # a store that does not answer at all says nothing of the sample
            files.stat_one(places.locate_shard(row["shard"]).partition("::")[0])
        return str(error).replace(source.root(), source.name).replace("\n", " ")[:300]


def _finding(data: bytes, known: KnownBytes) -> dict:
    hash = hashlib.sha256(data).digest()
    if remembered := known.find(hash):
        return remembered
    found = examine(data)
    if isinstance(found, Fault):
        return {**_fault(found.code, found.reason), "hash": hash, **(found.header._asdict() if found.header else {})}
    return {"hash": hash, **found._asdict()}


def _fault(code: str, reason: str) -> dict:
    return {"code": code, "reason": reason}


def _with_findings(asked: pa.Table, found: list[dict]) -> pa.Table:
    names = (*FINDINGS, "code", "reason")
    columns = [pa.array([finding.get(name) for finding in found], OUTCOMES.field(name).type) for name in names]
    return pa.table([*asked.columns[:4], *columns], OUTCOMES)


def _lasting(outcomes: pa.Table) -> pa.Table:
    """Those that another look would find too."""
    codes = outcomes["code"].to_pylist()
    return outcomes.filter(pa.array([code is None or CODES[code].lasting for code in codes], pa.bool_()))
