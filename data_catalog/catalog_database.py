"""Opens the DuckDB file of the catalog, and brings a catalog's schema up to date: the one file that imports duckdb.

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
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import duckdb

from data_catalog.disk import DiskFull
from data_catalog.outage import CatalogInUse
from data_catalog.store_files import make_folder, move_into_place, replacing, scratch_file

log = logging.getLogger(__name__)

Connection = duckdb.DuckDBPyConnection
Error = duckdb.Error
VERSION = duckdb.__version__
MIGRATIONS = ("schema.sql", "schema_2.sql")  # applied in order, each once; never edit one that was released
WRITABLE = "STORAGE_VERSION 'v1.5.0'"  # the file can be opened by every DuckDB that we run with
READ_ONLY = "READ_ONLY"
SETTINGS = {"memory_limit": "1GB", "python_enable_replacements": False}
WAIT_SECONDS = 60.0  # how long to wait for another process before giving up (EVERGREEN_CATALOG_WAIT_SECONDS)


class DamagedCatalog(ValueError):
    """The file is no catalog that can be read; it can be made again from the store."""


def rows_of(db: Connection, sql: str, parameters: list | None = None) -> list[dict]:
    """What a question gives, by the names of its columns."""
    cursor = db.execute(sql, parameters or [])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def answer(db: Connection, sql: str, parameters: list | None = None) -> list[dict]:
    """The rows of one SELECT; raises ValueError for anything else, and for what reaches for a file or an address."""
    db.execute("SET enable_external_access = false; SET lock_configuration = true")
    try:
        kinds = [statement.type for statement in db.extract_statements(sql)]
        if kinds != [duckdb.StatementType.SELECT]:
            raise ValueError(f"the catalog answers one SELECT at a time, not {[kind.name for kind in kinds]}: {sql!r}")
        return rows_of(db, sql, parameters)
    except duckdb.Error as error:
        if tells_of_damage(error) or type(error) is duckdb.Error:  # the latter: a database behind it failed
            raise
        raise ValueError(f"the catalog cannot answer {sql!r}: {error}") from error


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Connection | None]:
    """A file that is only read; None if there is none."""
    if not path.is_file():
        yield None
        return
    with turn(path, exclusive=False), attached(path, READ_ONLY) as db:
        yield db


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Connection]:
    """A transaction on an up-to-date file; nothing of it remains if the block fails."""
    with turn(path, exclusive=True):
        if path.is_file():
            _back_up_older(path)
        else:
            make(path)
        with attached(path, WRITABLE) as db:
            db.execute("BEGIN")
            migrate(db, path)
            yield db
            db.execute("COMMIT")


def migrate(db: Connection, place: object, adapted: Callable[[str], str] = str) -> None:
    """Give the database the tables and views that it lacks; raises ValueError if a later Evergreen made it.

    `adapted`: what to make of each statement for a kind of database that does not know all of SQL.
    """
    done = version_of(db, place)
    if done == 0:
        table = "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, applied_at TIMESTAMP)"
        db.execute(adapted(table))
    for number, name in enumerate(MIGRATIONS[done:], start=done + 1):
        db.execute(adapted((files("data_catalog") / name).read_text(encoding="utf-8")))
        db.execute("INSERT INTO schema_migrations VALUES (?, now()::TIMESTAMP)", [number])


def version_of(db: Connection, place: object) -> int:
    """How many migrations a catalog has had; raises ValueError if they are more than we know."""
    known = "SELECT count(*) FROM duckdb_tables() WHERE database_name = 'catalog' AND table_name = 'schema_migrations'"
    if not db.execute(known).fetchall()[0][0]:
        return 0
    version = db.execute("SELECT coalesce(max(number), 0) FROM schema_migrations").fetchall()[0][0]
    if version > len(MIGRATIONS):
        raise ValueError(
            f"the catalog {place} has schema version {version}, this Evergreen knows versions up to {len(MIGRATIONS)}: "
            "a later one wrote it; update Evergreen, or set EVERGREEN_CATALOG to another file"
        )
    return version


def connected(scratch: str) -> contextlib.closing[Connection]:
    """A connection to nothing yet; `scratch` is where it puts what does not fit into memory."""
    return contextlib.closing(duckdb.connect(config=SETTINGS | {"temp_directory": scratch}))


@contextlib.contextmanager
def attached(path: Path, option: str) -> Iterator[Connection]:
    """A connection to a catalog file, which a process that is not ours may hold for a while.

    Raises CatalogInUse if it is held for too long, and DamagedCatalog.
    """
    with connected(f"{path}.tmp") as db:
        try:
            attach_file(db, path, "catalog", option)
            db.execute("USE catalog")
            yield db
        except duckdb.Error as error:
            if _tells_of_a_full_disk(error):
                raise DiskFull(
                    f"no room is left for the catalog {path} ({error}): nothing of this was entered; make room, e.g. "
                    "with `evergreen gc --all`, and run the same command again"
                ) from error
            if not tells_of_damage(error):
                raise
            raise DamagedCatalog(
                f"{path} is damaged, or no catalog that this DuckDB {VERSION} can open ({error}); "
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


def attach_file(db: Connection, path: Path, name: str, option: str) -> None:
    """Let a connection reach a file under a name; raises CatalogInUse."""
    deadline = time.monotonic() + wait_seconds()
    while True:
        try:
            db.execute(f"ATTACH {quoted(str(path))} AS {name} ({option})")
            return
        except duckdb.IOException as error:
            held = re.search(r"lock is held in (.+? \(PID \d+\))", str(error))
            if not held and "set lock on file" not in str(error):
                raise
            _wait(path, deadline, f"by {held[1]}" if held else str(error))


def quoted(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def tells_of_damage(error: Exception) -> bool:
    """Whether a failure lies in the files and not in the question."""
    kinds = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
    return isinstance(error, kinds) or "orrupt database file" in str(error)


def make(path: Path) -> None:
    """An empty file of DuckDB's, whole or not at all: one that a full disk cut short could not be opened again."""
    with scratch_file(path.parent, path.name) as fresh:
        fresh.unlink()  # DuckDB makes its own
        with attached(fresh, WRITABLE):
            pass
        move_into_place(fresh, path)


def _wait(path: Path, deadline: float, by_whom: str) -> None:
    if time.monotonic() >= deadline:
        raise CatalogInUse(
            f"the catalog {path} is in use {by_whom}; waited {wait_seconds():g} s. Close that program and try again, "
            "wait longer with EVERGREEN_CATALOG_WAIT_SECONDS, or set EVERGREEN_CATALOG to another file"
        )
    time.sleep(0.05)


def _tells_of_a_full_disk(error: duckdb.Error) -> bool:
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def _back_up_older(path: Path) -> None:
    """Keep a catalog of an older schema version as it is, before it is migrated."""
    with attached(path, READ_ONLY) as db:
        version = version_of(db, path)
    if not 0 < version < len(MIGRATIONS):
        return
    for file in (path, path.with_name(f"{path.name}.wal")):  # closed again: a copy while DuckDB has it drops its lock
        if file.is_file():
            kept = file.with_name(file.name.replace(path.name, f"{path.name}.before-{len(MIGRATIONS)}"))
            with replacing(kept) as copy:
                shutil.copyfile(file, copy)
            log.warning("the catalog is migrated to schema version %d; %s keeps it as it was", len(MIGRATIONS), kept)
