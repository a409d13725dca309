"""Moves a whole catalog between a DuckDB file and a DuckLake, in one transaction, and proves that all is there."""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data_catalog import catalog_database, lake
from data_catalog.catalog_database import Connection
from data_catalog.catalog_place import Lake, Place
from data_catalog.refs import Spec

SCHEMA = "schema_migrations"  # each catalog has its own


class Count(Spec):
    """What a table holds: how many rows, and a sum over the hashes of all, whatever their order."""

    rows: int
    checksum: str


class Copied(Spec):
    """What came of copying a catalog."""

    source: str
    target: str
    tables: dict[str, Count]
    was_there: bool  # the target held the same already, and nothing was written


def copy(source: Place, target: Place) -> Copied:
    """Give `target` everything that `source` has, and compare row counts and checksums of every table.

    Raises ValueError if there is no source, or if the target holds something else.
    """
    if source == target:
        raise ValueError(f"{source} is both: name another catalog to copy to or from")
    if not (lake.exists(source) if isinstance(source, Lake) else source.is_file()):
        raise ValueError(f"there is no catalog {source} to copy from")
    action = partial(_enter, source, target)
    with _turn_at(source):
        if isinstance(target, Lake):
            tables, was_there = lake.write(target, action)[0]
        else:
            with catalog_database.writing(target) as db:
                tables, was_there = action(db)
    return Copied(source=str(source), target=str(target), tables=tables, was_there=was_there)


def replace_all(db: Connection) -> None:
    """Give every table of `catalog` the rows of `source` instead of its own; raises RuntimeError if they differ."""
    for table, columns in _tables(db).items():
        names = ", ".join(f'"{name}"' for name in columns)
        db.execute(f"DELETE FROM catalog.{table}")
        db.execute(f"INSERT INTO catalog.{table} ({names}) SELECT {names} FROM source.{table}")
    expected, found = counts(db, "source"), counts(db, "catalog")
    if wrong := [table for table in expected if found[table] != expected[table]]:
        raise RuntimeError(f"the copy differs in {', '.join(wrong)}: nothing was kept of it; {found} is not {expected}")


def counts(db: Connection, name: str) -> dict[str, Count]:
    """Rows and checksum of every table of an attached catalog."""
    found = {}
    for table, columns in _tables(db).items():
        values = ", ".join(f'"{column}"' for column in columns)
        sql = f"SELECT count(*), coalesce(sum(hash({values})::HUGEINT), 0) FROM {name}.{table}"
        rows, checksum = db.execute(sql).fetchall()[0]
        found[table] = Count(rows=rows, checksum=f"{int(checksum):x}")
    return found


def _enter(source: Place, target: Place, db: Connection) -> tuple[dict[str, Count], bool]:
    with _attached_source(db, source):
        present, wanted = counts(db, "catalog"), counts(db, "source")
        if present == wanted:
            return wanted, True
        if filled := [table for table, count in present.items() if count.rows]:
            raise ValueError(
                f"{target} is neither empty nor the same as {source} (it has rows in {', '.join(filled)}): copy to "
                "another place, or remove it first"
            )
        if isinstance(target, Lake):
            lake.take_all_turns(db)
        replace_all(db)
        return wanted, False


@contextlib.contextmanager
def _attached_source(db: Connection, source: Place) -> Iterator[None]:
    if isinstance(source, Lake):
        lake.equip(db, source)
        lake.attach(db, source, "source", catalog_database.READ_ONLY)
    else:
        catalog_database.attach_file(db, source, "source", catalog_database.READ_ONLY)
    version, needed = (
        db.execute(f"SELECT max(number) FROM source.{SCHEMA}").fetchall()[0][0],
        catalog_database.MIGRATIONS,
    )
    if version != len(needed):
        raise ValueError(
            f"{source} has schema version {version}, expected {len(needed)}: `evergreen datasets` with "
            "EVERGREEN_CATALOG set to it brings it up to date"
        )
    yield


def _tables(db: Connection) -> dict[str, list[str]]:
    """The columns of every table of the source."""
    columns = db.execute(
        "SELECT c.table_name, c.column_name FROM duckdb_columns() c JOIN duckdb_tables() t "
        "USING (database_name, schema_name, table_name) WHERE c.database_name = 'source' AND c.schema_name = 'main' "
        "AND c.table_name != ? ORDER BY c.table_name, c.column_index",
        [SCHEMA],
    ).fetchall()
    found: dict[str, list[str]] = {}
    for table, column in columns:
        found.setdefault(table, []).append(column)
    return found


@contextlib.contextmanager
def _turn_at(source: Place) -> Iterator[None]:
    """Nobody writes to a file while it is copied; a shared lake is read as of one moment."""
    if isinstance(source, Lake) and source.is_shared:
        yield
    else:
        path = Path(source.index) if isinstance(source, Lake) else source
        with catalog_database.turn(path, exclusive=False):
            yield
