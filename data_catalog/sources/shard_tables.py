"""What lies in the shards of a dataset, remembered per shard: one that is added costs itself alone.

The tables under `indexed` in the home are views: whatever is damaged or gone is found out again from its shard.
"""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_catalog import files, places
from data_catalog.files import FileStat
from data_catalog.sources.one_dataset import FOUND, as_found
from data_catalog.sources.tars import TarIndex, index_tar
from data_catalog.store_files import replacing, scratch_file

log = logging.getLogger(__name__)

LONGEST_TEXT = 2**20  # bytes of a member that says something of an image
_TICK_NS = 2_000_000_000  # a file changed so shortly before may change again and carry the same time
_REMOTE_AT_ONCE = 4


def tables_of(
    root: str, inside: dict[str, FileStat], facts: str, read: Callable[[str, str], pa.Table]
) -> list[pa.Table]:
    """The rows (FOUND) of each file, from `read(location, name)` where no table of this version and `facts` is kept.

    A file with a fault, and one that `read` raises ValueError for, is one refused row. Raises OSError if a store
    cannot be reached, since that says nothing of the file.
    """

    def table_of(item: tuple[str, FileStat]) -> pa.Table:
        name, stat = item
        if stat.fault:
            return as_found([_refused(name, "unusable_file", f"the file {stat.fault}")])
        memory, key = _memory(root, name), json.dumps([stat.version, facts])
        if (known := _remembered(memory, key)) is None:
            known = _read(root, name, read)
            is_trusted = stat.mtime_ns is None or stat.mtime_ns < time.time_ns() - _TICK_NS
            if is_trusted and "unreadable" not in known["code"].to_pylist():  # else it is tried again
                _remember(memory, key, known)
        return known

    with ThreadPoolExecutor(_REMOTE_AT_ONCE if files.is_url(root) else 1) as pool:
        return list(pool.map(table_of, inside.items()))


def index_shard(path: str) -> TarIndex:
    """The members of a local tar; raises OSError if it cannot be read, ValueError if it is no tar."""
    try:
        return index_tar(path)
    except ValueError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise


def with_split(rows: pa.Table, split: str | None) -> pa.Table:
    """The rows of one file with the split that its name speaks of, where they have none of their own."""
    at = rows.column_names.index("split")
    return rows.set_column(at, rows.field(at), pc.coalesce(rows["split"], pa.scalar(split, pa.string())))


def _read(root: str, name: str, read: Callable[[str, str], pa.Table]) -> pa.Table:
    location = where = files.join(root, name)
    try:
        if not files.is_url(location) or not name.endswith(".tar"):
            return read(location, name)
        with scratch_file(places.home() / "indexed", "shard") as copy:  # its small members lie all over it
            files.copy_to(location, copy)
            return read(where := str(copy), name)
    except files.Unreachable:
        raise
    except (OSError, ValueError, RecursionError) as error:
        return as_found([_refused(name, "unreadable", str(error).replace(where, name)[:300])])


def _refused(name: str, code: str, reason: str) -> dict:
    return {"key": name, "file": name, "code": code, "reason": reason}


def _memory(root: str, name: str) -> Path:
    return places.home() / "indexed" / f"{sha256(files.join(root, name).encode()).hexdigest()[:32]}.parquet"


def _remembered(memory: Path, key: str) -> pa.Table | None:
    if not memory.is_file():
        return None
    try:
        table = pq.read_table(memory, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        log.warning("%s is damaged (%s): its shard is indexed again", memory, error)
        return None
    said = (table.schema.metadata or {}).get(b"evergreen", b"").decode()
    return table.replace_schema_metadata(None).cast(FOUND) if said == key else None


def _remember(memory: Path, key: str, table: pa.Table) -> None:
    with replacing(memory) as path:
        kept = table.replace_schema_metadata({"evergreen": key})
        pq.write_table(kept, path, compression="zstd", write_page_checksum=True)
