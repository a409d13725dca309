"""What earlier looks at images found, so that a byte is read and a pixel decoded once.

Everything here is a view: whatever is damaged or deleted is found out again from the images, and the log says so.
"""

import hashlib
import json
import logging
import uuid
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_catalog import places, store
from data_catalog.shards import SAMPLES
from data_catalog.store_files import make_folder, replacing, write_atomically

log = logging.getLogger(__name__)

REVISION = 1  # raise when images, their checks and limits, hashes or a source would now be told otherwise
UNTRUSTED = "?"
FINDINGS = ("hash", "phash", "width", "height", "format")
OUTCOMES = pa.schema(
    [
        ("file", pa.string()),  # relative to the root of the source
        ("version", pa.string()),  # of the file when it was read, with UNTRUSTED before it if it may repeat
        ("offset", pa.int64()),
        ("length", pa.int64()),
        *(SAMPLES.field(name) for name in FINDINGS),
        ("code", pa.string()),  # of the quarantine; null for a sound image
        ("reason", pa.string()),
    ]
)


class Look(NamedTuple):
    """One look at a dataset: what it depended on, and the tables that came of it."""

    fingerprint: str  # of everything the outcome depends on but the bytes of images that kept their version
    digest: str  # of the RawDataset
    samples: str  # digest of the sample table in the store
    refused: str | None  # digest of the table of what was refused
    is_settled: bool  # False: look again though nothing seems changed (failures to be retried, clocks not trusted)

    def is_stored(self) -> bool:
        """Whether the store still has the tables."""
        if store.is_intact(self.samples) and (self.refused is None or store.is_intact(self.refused)):
            return True
        log.warning("tables of an earlier look (%s) are not in the store: they are made again", self.digest[:19])
        return False


class Memory:
    """The memory of one dataset of one source."""

    def __init__(self, folder: Path, dataset: str = ""):
        self.folder, self.dataset = folder, dataset

    @classmethod
    def of(cls, source: str, dataset: str) -> "Memory":
        """The memory of a dataset, in a folder that any name may have."""
        return cls(_root() / source / hashlib.sha256(dataset.encode()).hexdigest()[:32], dataset)

    def last_look(self) -> Look | None:
        """The latest look, None if there was none or its record is damaged."""
        path = self.folder / "look.json"
        try:
            return Look(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            _give_up(path, error)
            return None

    def last_fingerprint(self) -> str | None:
        """What the latest look was at, None if there was none."""
        look = self.last_look()
        return look.fingerprint if look else None

    def held(self) -> int:
        """How many usable samples the latest look found; 0 if nothing is known of one."""
        look = self.last_look()
        return store.read_table(look.samples, ["id"]).num_rows if look and look.is_stored() else 0

    def keep_look(self, look: Look) -> None:
        """Remember a look in place of the one before."""
        write_atomically(self.folder / "look.json", json.dumps(look._asdict(), indent=1).encode())

    def outcomes(self) -> pa.Table:
        """Every outcome known (schema OUTCOMES), also of images that are gone."""
        return pa.concat_tables([OUTCOMES.empty_table(), *filter(None, map(_read, self._parts()))])

    def add(self, outcomes: pa.Table) -> None:
        """Keep some more outcomes at once: an ingest that is interrupted goes on from here."""
        if outcomes.num_rows:
            _write(outcomes, self.folder / f"part-{uuid.uuid4().hex}.parquet")

    def settle(self, current: dict[str, str]) -> None:
        """Make one file of all parts, less what was found of other versions of the files there are now (`current`)."""
        parts = [path for path in self._parts() if path.name != "outcomes.parquet"]
        if not parts:
            return
        table = self.outcomes().combine_chunks()
        files = pa.array(list(current), pa.string())
        now = pa.array(list(current.values()), pa.string()).take(pc.index_in(table["file"], value_set=files))
        then = pc.replace_substring_regex(table["version"], f"^\\{UNTRUSTED}", "")
        table = table.filter(pc.fill_null(pc.equal(now, then), True))  # files that are gone may come back elsewhere
        codes = places_of(table).dictionary_encode().indices.to_numpy()
        last = len(codes) - 1 - np.unique(codes[::-1], return_index=True)[1]
        _write(table.take(np.sort(last)), self.folder / "outcomes.parquet")
        for part in parts:
            part.unlink(missing_ok=True)

    def forget_refusals(self) -> None:
        """Look again at everything that was refused."""
        parts, table = self._parts(), self.outcomes()
        self.add(table.filter(table["code"].is_null()))
        for path in (*parts, self.folder / "look.json"):
            path.unlink(missing_ok=True)

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("*.parquet"))


class KnownBytes:
    """The outcomes of all datasets of all sources by SHA-256: moved or renamed bytes are not decoded again."""

    def __init__(self):
        tables = [_read(path, ["hash", *OUTCOMES.names[5:]]) for path in sorted(_root().glob("*/*/*.parquet"))]
        empty = OUTCOMES.empty_table().select(["hash", *OUTCOMES.names[5:]])
        table = pa.concat_tables([empty, *filter(None, tables)])
        sound = pc.and_(table["hash"].is_valid(), table["code"].is_null())  # what was refused is looked at again
        self.table = table.filter(sound).combine_chunks()
        hashes = self.table["hash"].combine_chunks()
        starts = np.frombuffer(hashes.buffers()[1] or b"", ">u8").reshape(-1, 4)[hashes.offset :][: len(hashes), 0]
        self.order = np.argsort(starts, kind="stable")
        self.starts = starts[self.order]

    def find(self, hash: bytes) -> dict | None:
        """The outcome of an image with this SHA-256, None if none was ever looked at."""
        start = int.from_bytes(hash[:8])
        for at in range(int(np.searchsorted(self.starts, np.uint64(start))), len(self.starts)):
            if self.starts[at] != start:
                return None
            row = int(self.order[at])
            if self.table["hash"][row].as_py() == hash:
                return {name: self.table[name][row].as_py() for name in self.table.column_names}
        return None


def places_of(outcomes: pa.Table) -> pa.Array:
    """One string per row that is equal for equal bytes: file, version, offset and length."""
    numbers = (pc.cast(outcomes[name], pa.string()) for name in ("offset", "length"))
    version = pc.fill_null(outcomes["version"], "")
    joined = pc.binary_join_element_wise(outcomes["file"], version, *numbers, "\0")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def forget_refusals(source: str) -> None:
    """Look again at everything that was refused of a source."""
    for folder in sorted((_root() / source).glob("*/")):
        Memory(folder).forget_refusals()


def _root() -> Path:
    return places.home() / "inspected" / f"revision-{REVISION}"


def _write(table: pa.Table, path: Path) -> None:
    make_folder(path.parent)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _read(path: Path, columns: list[str] | None = None) -> pa.Table | None:
    try:
        table = pq.read_table(path, columns=columns, page_checksum_verification=True)
        expected = OUTCOMES if columns is None else pa.schema([OUTCOMES.field(name) for name in columns])
        return table.cast(expected)
    except FileNotFoundError:  # another process has just made one file of several
        return None
    except (OSError, ValueError, pa.ArrowException) as error:
        _give_up(path, error)
        return None


def _give_up(path: Path, error: Exception) -> None:
    log.warning("%s is damaged (%s): what it remembered is found out again from the images", path, error)
    path.unlink(missing_ok=True)
