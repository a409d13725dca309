"""The DuckDB catalog: which samples and captions exist and which steps saw them; a view of the store that can be asked.

A lock file beside the database makes our readers and writers take turns, since DuckDB refuses every other process while
one writes. Connections are opened for one transaction and closed, so the wait is short.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import duckdb

from data_catalog import catalog_rows, decisions, descent, recorded
from data_catalog.caption_rows import CaptionRef, CaptionScores
from data_catalog.disk import DiskFull
from data_catalog.duplicates import DuplicateGroups
from data_catalog.exclusions import Exclusions
from data_catalog.outage import CatalogInUse
from data_catalog.places import catalog_path
from data_catalog.recorded import RecordedStream, TrainedStep
from data_catalog.shards import DatasetRef
from data_catalog.store_files import make_folder, move_into_place, replacing, scratch_file
from data_catalog.stream import StreamPlan

log = logging.getLogger(__name__)

MIGRATIONS = ("schema.sql", "schema_2.sql")  # applied in order, each once; never edit one that was released
WRITABLE = "STORAGE_VERSION 'v1.5.0'"  # the file can be opened by every DuckDB that we run with
SETTINGS = {"memory_limit": "1GB", "python_enable_replacements": False}
START = "start"  # the recipe of what was trained before the stream began
WAIT_SECONDS = 60.0  # how long to wait for another process before giving up (EVERGREEN_CATALOG_WAIT_SECONDS)


class DamagedCatalog(ValueError):
    """The file is no catalog that can be read; it can be made again from the store."""


def record_ingest(datasets: Sequence[DatasetRef], captions: Sequence[CaptionRef]) -> bool:
    """Make the catalog hold these datasets and captions; False, with the file untouched, if it already does.

    A dataset that changed replaces its samples, at once; captions are versions beside each other. After a failure
    the datasets entered before it stay, and the next run enters the rest.
    """
    recorded.remember([*datasets, *captions])
    if not any(_unrecorded(query(_RECORDED), datasets, captions)):
        return False
    with writing() as db:  # looked up again: another run may have recorded some of it meanwhile
        fresh, said = _unrecorded(_rows(db, _RECORDED), datasets, captions)
        for dataset in fresh:
            catalog_rows.replace_dataset(db, dataset)
            db.execute("COMMIT; BEGIN")  # an open transaction keeps every Arrow table that it has read
        for ref in said:
            catalog_rows.add_captions(db, ref)
    return True


def record_stream(
    name: str, plan: StreamPlan, steps: Sequence[TrainedStep], exclusions: Sequence[Exclusions] = ()
) -> bool:
    """Record the stream called `name`: which samples arrive when, what each step trained on and what came of it.

    Replaces what was recorded under that name; False, with the file untouched, if it is recorded like this already.
    `exclusions`: what it was planned without. Updates that led to the weights the stream began with are recorded as
    steps -1, -2, ... of a recipe called `start`.
    """
    ordered = tuple(sorted([*steps, *starts_of(steps)], key=lambda step: (step.recipe, step.step)))
    fact = RecordedStream(name=name, plan=plan, steps=ordered, exclusions=tuple(exclusions))
    is_news = recorded.remember([fact])
    if not is_news and _recorded_stream(name) == (plan.digest, ordered):
        return False
    with writing() as db:
        catalog_rows.replace_stream(db, fact)
    return True


def starts_of(steps: Sequence[TrainedStep]) -> tuple[TrainedStep, ...]:
    """The updates before a stream, as steps -1, -2, ... of a recipe of their own."""
    before = descent.updates_before([digest for step in steps for digest in (step.checkpoint, step.deployed) if digest])
    return tuple(
        TrainedStep(recipe=START, step=-number, step_plan=step_plan, checkpoint=checkpoint)
        for number, (step_plan, checkpoint) in enumerate(before, start=1)
    )


def record_duplicates(groups: DuplicateGroups) -> bool:
    """Record groups of samples that show the same picture, beside earlier ones; False if they are there already."""
    return _record_once(groups, catalog_rows.add_duplicates)


def record_scores(scores: CaptionScores) -> bool:
    """Record how well texts fit their images, beside earlier scores; False if they are there already."""
    return _record_once(scores, catalog_rows.add_scores)


def record_decisions() -> None:
    """Make the catalog hold every decision of the ledger, as any other writing does by the way."""
    with writing():
        pass


def query(sql: str, parameters: list | None = None) -> list[dict]:
    """The rows that a question in SQL gives, e.g. for an ordering of one's own; none if nothing was ever recorded.

    One SELECT on the tables of the catalog: whatever writes, or reaches for a file or an address, raises ValueError.
    """
    path = catalog_path()
    if not path.is_file():
        return []
    with turn(path, exclusive=False), attached(path, "READ_ONLY") as db:
        version = _version(db, path)
        if version == len(MIGRATIONS):
            return _answer(db, sql, parameters)
    if version == 0:  # all that ever happened is a transaction that failed
        return []
    record_decisions()  # brings the schema up to date
    return query(sql, parameters)


def summary() -> list[dict]:
    """Per dataset, by name: kind, digest, samples of each split; counts of concepts, captioned and refused samples."""
    counts = {
        row["dataset"]: row
        for row in query(
            "SELECT name AS dataset, kind, digest, 0 AS concepts, 0 AS captions, 0 AS quarantined FROM datasets "
            "ORDER BY name"
        )
    }
    for name, counted in (("concepts", "*"), ("captions", "DISTINCT sample"), ("quarantine", "*")):
        for row in query(f"SELECT dataset, count({counted}) AS found FROM {name} GROUP BY dataset"):
            if row["dataset"] in counts:
                counts[row["dataset"]]["quarantined" if name == "quarantine" else name] = row["found"]
    splits = query("SELECT dataset, split, count(*) AS samples FROM samples GROUP BY ALL ORDER BY ALL")
    return [
        row | {"samples": {s["split"]: s["samples"] for s in splits if s["dataset"] == name}}
        for name, row in counts.items()
    ]


def quarantined(dataset: str | None = None) -> list[dict]:
    """What was refused and why (id, dataset, shard, code, reason), of one dataset or of all."""
    return query(
        "SELECT id, dataset, shard, code, reason FROM quarantine WHERE dataset = ? OR ? IS NULL "
        "ORDER BY dataset, id, reason",
        [dataset, dataset],
    )


_RECORDED = """
    SELECT 'samples' AS what, name AS dataset, digest FROM datasets
    UNION SELECT what, dataset, digest FROM ingest_runs WHERE what = 'captions'
"""


def _record_once(fact: DuplicateGroups | CaptionScores, add: Callable) -> bool:
    recorded.remember([fact])
    if query("SELECT 1 FROM ingest_runs WHERE digest = ?", [fact.digest]):
        return False
    with writing() as db:
        add(db, fact)
    return True


def _unrecorded(
    rows: list[dict], datasets: Sequence[DatasetRef], captions: Sequence[CaptionRef]
) -> tuple[list[DatasetRef], list[CaptionRef]]:
    """Those of the datasets and captions that are not among the rows of _RECORDED."""
    known = {(row["what"], row["dataset"], row["digest"]) for row in rows}
    fresh = [dataset for dataset in datasets if ("samples", dataset.name, dataset.digest) not in known]
    return fresh, [ref for ref in captions if ("captions", ref.name, ref.digest) not in known]


def _recorded_stream(name: str) -> tuple[str, tuple[TrainedStep, ...]] | None:
    found = query("SELECT digest FROM streams WHERE name = ?", [name])
    steps = query(
        "SELECT recipe, step, step_plan, checkpoint, deployed FROM steps WHERE stream = ? ORDER BY recipe, step", [name]
    )
    return (found[0]["digest"], tuple(TrainedStep(**step) for step in steps)) if found else None


def _answer(db: duckdb.DuckDBPyConnection, sql: str, parameters: list | None) -> list[dict]:
    db.execute("SET enable_external_access = false; SET lock_configuration = true")
    try:
        kinds = [statement.type for statement in db.extract_statements(sql)]
        if kinds != [duckdb.StatementType.SELECT]:
            raise ValueError(f"the catalog answers one SELECT at a time, not {[kind.name for kind in kinds]}: {sql!r}")
        return _rows(db, sql, parameters)
    except duckdb.Error as error:
        if _tells_of_damage(error):
            raise
        raise ValueError(f"the catalog cannot answer {sql!r}: {error}") from error


def _rows(db: duckdb.DuckDBPyConnection, sql: str, parameters: list | None = None) -> list[dict]:
    cursor = db.execute(sql, parameters or [])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextlib.contextmanager
def writing() -> Iterator[duckdb.DuckDBPyConnection]:
    """A transaction on an up-to-date catalog; nothing of it remains if the block fails."""
    path = catalog_path()
    with turn(path, exclusive=True):
        if path.is_file():
            _back_up_older(path)
        else:
            _make(path)
        with attached(path, WRITABLE) as db:
            db.execute("BEGIN")
            migrate(db, path)
            catalog_rows.add_decisions(db, decisions.decisions())
            yield db
            db.execute("COMMIT")


def migrate(db: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Give the database the tables and views that it lacks; raises ValueError if a later Evergreen made it."""
    done = _version(db, path)
    if done == 0:
        db.execute("CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, applied_at TIMESTAMP)")
    for number, name in enumerate(MIGRATIONS[done:], start=done + 1):
        db.execute((files("data_catalog") / name).read_text(encoding="utf-8"))
        db.execute("INSERT INTO schema_migrations VALUES (?, now()::TIMESTAMP)", [number])


@contextlib.contextmanager
def attached(path: Path, option: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to a catalog file, which a process that is not ours may hold for a while.

    Raises CatalogInUse if it is held for too long, and DamagedCatalog.
    """
    settings = SETTINGS | {"temp_directory": f"{path}.tmp"}
    with contextlib.closing(duckdb.connect(config=settings)) as db:
        try:
            _attach(db, path, option)
            yield db
        except duckdb.Error as error:
            if _tells_of_a_full_disk(error):
                raise DiskFull(
                    f"no room is left for the catalog {path} ({error}): nothing of this was entered; make room, e.g. "
                    "with `evergreen gc --all`, and run the same command again"
                ) from error
            if not _tells_of_damage(error):
                raise
            raise DamagedCatalog(
                f"{path} is damaged, or no catalog that this DuckDB {duckdb.__version__} can open ({error}); "
                "`evergreen catalog rebuild` makes it again from the store"
            ) from error


@contextlib.contextmanager
def turn(path: Path, exclusive: bool) -> Iterator[None]:
    """Our turn at the catalog: readers together, a writer alone, threads and processes alike."""
    deadline = time.monotonic() + wait_seconds()
    make_folder(path.parent)
    with open(path.with_name(f"{path.name}.lock"), "a") as lock:
        while True:
            try:
                fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait(path, deadline, "by another Evergreen process, which has its turn")
        yield


def wait_seconds() -> float:
    """How long to wait for whoever has the catalog open (EVERGREEN_CATALOG_WAIT_SECONDS)."""
    given = os.environ.get("EVERGREEN_CATALOG_WAIT_SECONDS", str(WAIT_SECONDS))
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"EVERGREEN_CATALOG_WAIT_SECONDS is {given!r}, expected a number of seconds from 0")
    return seconds


def _attach(db: duckdb.DuckDBPyConnection, path: Path, option: str) -> None:
    deadline, quoted = time.monotonic() + wait_seconds(), str(path).replace("'", "''")
    while True:
        try:
            db.execute(f"ATTACH '{quoted}' AS catalog ({option})")
            break
        except duckdb.IOException as error:
            held = re.search(r"lock is held in (.+? \(PID \d+\))", str(error))
            if not held and "set lock on file" not in str(error):
                raise
            _wait(path, deadline, f"by {held[1]}" if held else str(error))
    db.execute("USE catalog")


def _wait(path: Path, deadline: float, by_whom: str) -> None:
    if time.monotonic() >= deadline:
        raise CatalogInUse(
            f"the catalog {path} is in use {by_whom}; waited {wait_seconds():g} s. Close that program and try again, "
            "wait longer with EVERGREEN_CATALOG_WAIT_SECONDS, or set EVERGREEN_CATALOG to another file"
        )
    time.sleep(0.05)


def _tells_of_a_full_disk(error: duckdb.Error) -> bool:
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _tells_of_damage(error: duckdb.Error) -> bool:
    kinds = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
    return isinstance(error, kinds) or "orrupt database file" in str(error)


def _version(db: duckdb.DuckDBPyConnection, path: Path) -> int:
    """How many migrations a catalog has had; raises ValueError if they are more than we know."""
    known = "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'catalog' AND table_name = 'schema_migrations'"
    if not db.execute(known).fetchall()[0][0]:
        return 0
    version = db.execute("SELECT coalesce(max(number), 0) FROM schema_migrations").fetchall()[0][0]
    if version > len(MIGRATIONS):
        raise ValueError(
            f"the catalog {path} has schema version {version}, this Evergreen knows versions up to {len(MIGRATIONS)}: "
            "a later one wrote it; update Evergreen, or set EVERGREEN_CATALOG to another file"
        )
    return version


def _make(path: Path) -> None:
    """An empty file of DuckDB's, whole or not at all: one that a full disk cut short could not be opened again."""
    with scratch_file(path.parent, path.name) as fresh:
        fresh.unlink()  # DuckDB makes its own
        with attached(fresh, WRITABLE):
            pass
        move_into_place(fresh, path)


def _back_up_older(path: Path) -> None:
    """Keep a catalog of an older schema version as it is, before it is migrated."""
    with attached(path, "READ_ONLY") as db:
        version = _version(db, path)
    if not 0 < version < len(MIGRATIONS):
        return
    for file in (path, path.with_name(f"{path.name}.wal")):  # closed again: a copy while DuckDB has it drops its lock
        if file.is_file():
            kept = file.with_name(file.name.replace(path.name, f"{path.name}.before-{len(MIGRATIONS)}"))
            with replacing(kept) as copy:
                shutil.copyfile(file, copy)
            log.warning("the catalog is migrated to schema version %d; %s keeps it as it was", len(MIGRATIONS), kept)
