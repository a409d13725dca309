"""What captioners said, kept row by row: whoever was interrupted goes on, and a new image costs only itself."""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_catalog.captions import Progress
from data_catalog.places import home
from data_catalog.shards import TEXTS
from data_catalog.store_files import replacing

ROWS_PER_FILE, SECONDS_PER_FILE = 4096, 60.0  # what is not yet in a file is lost when the machine is
MEMORY = pa.schema([("key", pa.binary(32)), ("texts", TEXTS), ("tokens_in", pa.int64()), ("tokens_out", pa.int64())])


class Said(NamedTuple):
    """What a captioner said to one question; no text if it had nothing to say."""

    texts: tuple[str, ...]
    tokens_in: int = 0
    tokens_out: int = 0


Ask = Callable[[list[int]], Iterable[list[tuple[int, Said]]]]


def answered(captioner: str, keys: Sequence[bytes], ask: Ask, label: str, progress: Progress | None) -> list[Said]:
    """What `captioner` (its id) says to each of `keys`, SHA-256 of all that a question holds.

    `ask` gets the places of the questions nobody has answered yet, equal ones once, and gives answers some at a time,
    each with its place, in any order. They are kept as they come, also when it raises.
    """
    memory = RowMemory(captioner)
    known = memory.recall(keys)
    places = {key: place for place, key in reversed(list(enumerate(keys)))}
    missing = sorted(place for key, place in places.items() if key not in known)
    done = len(places) - len(missing)
    with memory:
        for some in ask(missing) if missing else ():
            fresh = {keys[place]: said for place, said in some}
            memory.add(fresh)
            known |= fresh
            done += len(fresh)
            if progress:
                progress(label, done, len(places))
    return [known[key] for key in keys]


class RowMemory:
    """The files of one captioner below the home; inside a `with` block answers can be added."""

    def __init__(self, captioner: str):
        self.folder = home() / "captions" / captioner.replace(":", "-")
        self._fresh: dict[bytes, Said] = {}
        self._flushed = time.monotonic()

    def recall(self, keys: Sequence[bytes]) -> dict[bytes, Said]:
        """What is known of `keys`; a damaged file is named in the log, and its rows are asked for again."""
        wanted = pa.array(sorted(set(keys)), pa.binary(32))
        known: dict[bytes, Said] = {}
        for table in self._tables():
            for row in table.filter(pc.is_in(table["key"], wanted)).to_pylist():
                known[row["key"]] = Said(tuple(row["texts"]), row["tokens_in"], row["tokens_out"])
        return known

    def add(self, answers: dict[bytes, Said]) -> None:
        """Keep answers; they reach the disk in batches and at the end of the block."""
        self._fresh |= answers
        if len(self._fresh) >= ROWS_PER_FILE or time.monotonic() - self._flushed >= SECONDS_PER_FILE:
            self._flush()

    def __enter__(self) -> "RowMemory":
        return self

    def __exit__(self, *_error: object) -> None:
        self._flush()

    def _flush(self) -> None:
        if self._fresh:
            rows = [[key, *said] for key, said in self._fresh.items()]
            columns = [
                pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), MEMORY, strict=True)
            ]
            with replacing(self.folder / f"{uuid.uuid4().hex}.parquet") as path:
                pq.write_table(pa.table(columns, schema=MEMORY), path, compression="zstd")
        self._fresh, self._flushed = {}, time.monotonic()

    def _tables(self) -> Iterator[pa.Table]:
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                yield pq.read_table(path, schema=MEMORY)
            except (pa.ArrowInvalid, OSError) as error:
                logging.getLogger(__name__).warning("%s is damaged (%s): its captions are made again", path, error)
