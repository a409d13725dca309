"""What captioners said, kept row by row: whoever was interrupted goes on, and a new image costs only itself.

Processes that share the images of a dataset hand their answers on as tables of the store (`hearing`, `known_already`),
since each may have a home of its own.
"""

import contextlib
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_catalog import store
from data_catalog.captions import Progress
from data_catalog.places import home
from data_catalog.refs import Ref
from data_catalog.shards import TEXTS
from data_catalog.store_files import replacing

ROWS_PER_FILE, SECONDS_PER_FILE = 4096, 60.0  # what is not yet in a file is lost when the machine is
MEMORY = pa.schema([("key", pa.binary(32)), ("texts", TEXTS), ("tokens_in", pa.int64()), ("tokens_out", pa.int64())])


class Said(NamedTuple):
    """What a captioner said to one question; no text if it had nothing to say."""

    texts: tuple[str, ...]
    tokens_in: int = 0
    tokens_out: int = 0


class AnswersRef(Ref):
    """What captioners said to some questions; the digest names a table (schema MEMORY, and a column `captioner`)."""


Answers = dict[str, dict[bytes, Said]]  # by the id of the captioner, and the key of the question
Ask = Callable[[list[int]], Iterable[list[tuple[int, Said]]]]


def answered(captioner: str, keys: Sequence[bytes], ask: Ask, label: str, progress: Progress | None) -> list[Said]:
    """What `captioner` (its id) says to each of `keys`, SHA-256 of all that a question holds.

    `ask` gets the places of the questions nobody has answered yet, equal ones once, and gives answers some at a time,
    each with its place, in any order. They are kept as they come, also when it raises.
    """
    memory, given = RowMemory(captioner), _given.get().get(captioner, {})
    known = memory.recall(keys)
    fresh = {key: given[key] for key in dict.fromkeys(keys) if key in given}
    places = {key: place for place, key in reversed(list(enumerate(keys)))}
    missing = sorted(place for key, place in places.items() if key not in known and key not in fresh)
    done = len(places) - len(missing)
    with memory:
        memory.add({key: said for key, said in fresh.items() if key not in known})
        known |= fresh  # the same for whoever is given them, whatever else was kept here
        for some in ask(missing) if missing else ():
            fresh = {keys[place]: said for place, said in some}
            memory.add(fresh)
            known |= fresh
            done += len(fresh)
            if progress:
                progress(label, done, len(places))
    if (heard := _heard.get()) is not None:
        heard[captioner] |= {key: known[key] for key in keys}
    return [known[key] for key in keys]


@contextlib.contextmanager
def hearing() -> Iterator[Answers]:
    """Collect every answer that captioners give, or gave before, in the block."""
    heard: Answers = defaultdict(dict)
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


@contextlib.contextmanager
def known_already(some: Iterable[AnswersRef]) -> Iterator[None]:
    """Let stored answers count as given in the block; of two to one question the first."""
    given: Answers = defaultdict(dict)
    for ref in some:
        for row in store.read_table(ref.digest).to_pylist():
            said = Said(tuple(row["texts"]), row["tokens_in"], row["tokens_out"])
            given[row["captioner"]].setdefault(row["key"], said)
    token = _given.set(given)
    try:
        yield
    finally:
        _given.reset(token)


def stored(heard: Answers, **origin: object) -> AnswersRef:
    """Answers as a table of the store, sorted: equal answers are equal bytes."""
    rows = sorted((name, key, *said) for name, answers in heard.items() for key, said in answers.items())
    schema = pa.schema([("captioner", pa.string()), *MEMORY])
    return AnswersRef(digest=store.write_table(_table(rows, schema), **origin))


def _table(rows: Sequence[tuple], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in schema]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


_given: ContextVar[Answers] = ContextVar("given_answers", default={})  # noqa: B039 never changed
_heard: ContextVar[Answers | None] = ContextVar("heard_answers", default=None)


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
            rows = [(key, *said) for key, said in self._fresh.items()]
            with replacing(self.folder / f"{uuid.uuid4().hex}.parquet") as path:
                pq.write_table(_table(rows, MEMORY), path, compression="zstd")
        self._fresh, self._flushed = {}, time.monotonic()

    def _tables(self) -> Iterator[pa.Table]:
        for path in sorted(self.folder.glob("*.parquet")):
            try:
                yield pq.read_table(path, schema=MEMORY)
            except (pa.ArrowInvalid, OSError) as error:
                logging.getLogger(__name__).warning("%s is damaged (%s): its captions are made again", path, error)
