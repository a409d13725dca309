"""The catalog as a DuckLake: tables as Parquet files, their index in PostgreSQL, several writers at once.

A writer reads one state and is refused if another has changed what it touched meanwhile; then it does its transaction
again. DuckLake knows no unique rows: two that add a row of one name both succeed. So whoever writes about a subject
takes a turn first, by changing a row of the subject's, where two at once are refused.
"""

import contextlib
import importlib.util
import logging
import random
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from data_catalog import catalog_database
from data_catalog.catalog_database import Connection, quoted, wait_seconds
from data_catalog.catalog_place import Lake
from data_catalog.files import driver_of, is_url
from data_catalog.outage import CatalogInUse, Outage
from data_catalog.places import home

T = TypeVar("T")
log = logging.getLogger(__name__)

TURNS = 16  # subjects share so many rows: as many unlike writers can be at work without a conflict
ATTEMPTS = 8  # at least so many, however long they take
SETTINGS = "EVERGREEN_CATALOG, EVERGREEN_CATALOG_DATA, or PGPASSWORD or the file that PGPASSFILE names"
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 3.0
_CONFLICT = re.compile(
    r"transaction conflict|could not serialize|deadlock detected|duplicate key value|"
    r"relation \"ducklake_\w+\" already exists",  # two made the same lake at once
    re.I,
)
_FINAL = re.compile(
    r"(database|role) \"[^\"]*\" does not exist|authentication failed|no password supplied|permission denied|"
    r"could not translate host name|DATA_PATH parameter|no pg_hba.conf entry",
    re.I,
)
_AWAY = re.compile(
    r"unable to connect|could not connect|connection refused|server closed the connection|terminating connection|"
    r"no connection to the server|the database system is|connection .*(lost|not open)|SSL SYSCALL|"
    r"could not receive data|could not send",
    re.I,
)
_ASIDE = re.compile(r"\b(postgres|ducklake|sqlite|mysql|pg)_\w*\s*\(|__ducklake", re.I)


def exists(lake: Lake) -> bool:
    """Whether the lake was ever written to."""

    def look() -> bool:
        with reading(lake) as db:
            return db is not None

    return retried(look, lake)


@contextlib.contextmanager
def reading(lake: Lake) -> Iterator[Connection | None]:
    """One state of the lake, which reaches no other file; None if nothing was ever written."""
    if not lake.is_shared and not Path(lake.index).is_file():
        yield None
        return
    with _turn(lake, exclusive=False), connected(lake) as db:
        try:
            attach(db, lake, "catalog", catalog_database.READ_ONLY)
        except catalog_database.Error as error:
            if "creating a new DuckLake is explicitly disabled" not in str(error):
                raise
            yield None
            return
        db.execute(f"USE catalog; SET allowed_directories = [{quoted(lake.data)}]")
        yield db


def refuse_what_reaches_aside(sql: str) -> None:
    """Raises ValueError for a question that would speak to the database of the index itself."""
    if found := _ASIDE.search(sql):
        raise ValueError(f"the catalog answers questions on its tables, not {found[0]!r}: {sql!r}")


def write(lake: Lake, *actions: Callable[[Connection], T]) -> list[T]:
    """What actions give, each in a transaction of its own that is done again, on a new state, if another came first.

    Each takes the turns of what it writes about. Raises CatalogInUse if others come first for too long.
    """
    done: list[T] = []

    def go_on() -> None:
        before = len(done)
        try:
            with _opened(lake) as db:
                for action in actions[before:]:
                    done.append(_transaction(db, action))
        except catalog_database.Error as error:
            if len(done) == before or not is_conflict(error):
                raise  # else the next has all patience before it

    with _turn(lake, exclusive=True):
        while len(done) < len(actions):
            retried(go_on, lake)
    return done


def take_turn(db: Connection, subject: str) -> None:
    """Be the only one who writes about a subject: another who does in the same time is refused when it commits."""
    _take(db, zlib.crc32(subject.encode()) % TURNS)


def take_all_turns(db: Connection) -> None:
    """Be the only one who writes at all."""
    for number in range(TURNS):
        _take(db, number)


def retried(attempt: Callable[[], T], lake: object, pause: Callable[[float], None] = time.sleep) -> T:
    """What `attempt` gives, tried again after a conflict or while the database is away, with longer pauses.

    Raises CatalogInUse or Outage when the wait (EVERGREEN_CATALOG_WAIT_SECONDS) is over and ATTEMPTS were made, and
    ValueError for what waiting will not change.
    """
    end, wait, made = time.monotonic() + wait_seconds(), FIRST_PAUSE, 0
    while True:
        made += 1
        try:
            return attempt()
        except catalog_database.Error as error:
            if _FINAL.search(str(error)):
                raise ValueError(
                    f"the catalog {lake} cannot be opened ({_one_line(error)}): mend {SETTINGS}"
                ) from error
            passes = is_conflict(error) or _AWAY.search(str(error))
            if not passes and not catalog_database.tells_of_damage(error):
                raise
            if not passes or (made >= ATTEMPTS and time.monotonic() >= end):
                raise _given_up(error, lake, made) from error
            log.info("the catalog %s: attempt %d failed (%s), trying again", lake, made, _one_line(error))
        pause(wait * random.uniform(0.5, 1))  # else all who were refused at once come back at once
        wait = min(2 * wait, LONGEST_PAUSE)


def is_conflict(error: Exception) -> bool:
    """Whether a transaction was refused because another came first."""
    return _CONFLICT.search(str(error)) is not None


@contextlib.contextmanager
def connected(lake: Lake) -> Iterator[Connection]:
    """A connection that can reach a lake, but is attached to none yet."""
    with catalog_database.connected(str(home() / "lake.tmp")) as db:
        equip(db, lake)
        yield db


def equip(db: Connection, lake: Lake) -> None:
    """Load what a connection needs to reach a lake; raises Outage if it cannot be had."""
    db.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
    if is_url(lake.data) and lake.data.partition(":")[0] not in db.list_filesystems():
        # DuckDB's own driver would want the keys in SQL; ours takes them from the environment
        db.register_filesystem(driver_of(lake.data))
    remote = ("httpfs",) if is_url(lake.data) else ()  # asked for by name, though not used
    for name in (*remote, *(("postgres_scanner",) if lake.is_shared else ()), "ducklake"):
        load_extension(db, name)


def attach(db: Connection, lake: Lake, name: str, option: str = "") -> None:
    """Let a connection reach a lake under a name; without READ_ONLY, one that is not there is made."""
    data = f"DATA_PATH {quoted(lake.data)}" + (f", {option}" if option else "")
    db.execute(f"ATTACH {quoted(str(lake))} AS {name} ({data})")


def adapted(statements: str) -> str:
    """Our SQL for a lake, which knows no keys."""
    return statements.replace("PRIMARY KEY", "NOT NULL")


def snapshot(db: Connection) -> int:
    """The number of the state that a connection sees; it can be asked for later."""
    return db.execute("SELECT max(snapshot_id) FROM ducklake_snapshots('catalog')").fetchall()[0][0]


def _take(db: Connection, number: int) -> None:
    db.execute(f"UPDATE turns.turn_{number} SET taken = taken + 1")


@contextlib.contextmanager
def _opened(lake: Lake) -> Iterator[Connection]:
    """A connection to an up-to-date lake, made where there is none."""
    with connected(lake) as db:
        attach(db, lake, "catalog")
        db.execute("USE catalog")
        _make_current(db, lake)
        yield db


def _transaction(db: Connection, action: Callable[[Connection], T]) -> T:
    db.execute("BEGIN")
    try:
        result = action(db)
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(catalog_database.Error):  # a refused commit has ended it already
            db.execute("ROLLBACK")
        raise
    return result


def _make_current(db: Connection, lake: Lake) -> None:
    """Tables, views and turns of this version, in a transaction of their own; two that make them at once conflict."""
    version = catalog_database.version_of(db, lake)
    if version == len(catalog_database.MIGRATIONS):
        return
    db.execute("BEGIN")
    catalog_database.migrate(db, lake, adapted)
    if version == 0:
        db.execute("CREATE SCHEMA turns")
        for number in range(TURNS):
            db.execute(f"CREATE TABLE turns.turn_{number} AS SELECT 0 AS taken")
    db.execute("COMMIT")


@contextlib.contextmanager
def _turn(lake: Lake, exclusive: bool) -> Iterator[None]:
    """An index in a file has room for one process that writes; PostgreSQL takes any number."""
    if lake.is_shared:
        yield
    else:
        with catalog_database.turn(Path(lake.index), exclusive):
            yield


def load_extension(db: Connection, name: str) -> None:
    """Load an extension of DuckDB from its package, or else let DuckDB fetch it; raises Outage if both fail."""
    found = importlib.util.find_spec(f"duckdb_extension_{name}")
    if found is not None and found.origin:
        file = Path(found.origin).parent / f"extensions/v{catalog_database.VERSION}/{name}.duckdb_extension"
        if file.is_file():
            db.execute(f"LOAD {quoted(str(file))}")
            return
    try:
        db.execute(f"INSTALL {name}; LOAD {name}")
    except catalog_database.Error as error:
        raise Outage(
            f"a DuckLake needs DuckDB's extension {name}, which is no package here for DuckDB "
            f"{catalog_database.VERSION}, and DuckDB could not fetch it ({_one_line(error)}): install "
            "'evergreen[ducklake]' in an environment of its own (it brings DuckDB 1.5.5), or allow this machine to "
            "reach extensions.duckdb.org"
        ) from error


def _given_up(error: Exception, lake: object, made: int) -> Outage:
    if is_conflict(error):
        return CatalogInUse(
            f"the catalog {lake} is in use: other writers came first {made} times in {wait_seconds():g} s. Run the "
            "same command again, or wait longer with EVERGREEN_CATALOG_WAIT_SECONDS"
        )
    return Outage(
        f"the catalog {lake} does not answer ({_one_line(error)}); asked {made} times: look after its PostgreSQL and "
        "its storage, then run the same command again"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
