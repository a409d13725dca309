"""Makes the catalog again from the store, when it is lost, damaged, wrong or of another DuckDB."""

from pathlib import Path

from pydantic import ValidationError

from data_catalog import catalog_copy, catalog_database, catalog_rows, decisions, lake, recorded
from data_catalog.catalog_place import Lake, place
from data_catalog.catalog_rows import Connection
from data_catalog.places import home
from data_catalog.refs import Spec
from data_catalog.store import MissingArtifact
from data_catalog.store_files import make_folder, move_into_place, scratch_file


class Rebuilt(Spec):
    """What came of making the catalog again."""

    entered: dict[str, int]  # kind of fact -> how many
    lost: tuple[str, ...]  # what could not be entered, and why
    kept: str | None  # where the former file lies now, or which snapshot is as it was; None if there was none


def rebuild() -> Rebuilt:
    """Enter everything that the store says was recorded anew, in the place of what the catalog has now.

    Raises ValueError if nothing is known to have been recorded.
    """
    where = place()
    _facts()
    if isinstance(where, Lake):
        return lake.write(where, _in_a_lake)[0]
    with catalog_database.turn(where, exclusive=True), scratch_file(where.parent, where.name) as fresh:
        _wait_until_free(where)
        entered, lost = _made(fresh)
        kept = _set_aside(where)
        move_into_place(fresh, where)
    return Rebuilt(entered=entered, lost=tuple(lost), kept=kept)


def _in_a_lake(db: Connection) -> Rebuilt:
    """Made in a file, then moved over in one transaction; begun before the facts are read, so that none is missed."""
    lake.take_all_turns(db)
    before = lake.snapshot(db)
    make_folder(home())
    with scratch_file(home(), "rebuilt.duckdb") as fresh:
        entered, lost = _made(fresh)
        catalog_database.attach_file(db, fresh, "source", catalog_database.READ_ONLY)
        catalog_copy.replace_all(db)
    return Rebuilt(entered=entered, lost=tuple(lost), kept=f"snapshot {before}")


def _facts() -> list[tuple[recorded.What, dict]]:
    facts = recorded.standing()
    if not facts:
        raise ValueError(
            "the store does not say that anything was recorded, so there is nothing to rebuild the catalog from; "
            "run `evergreen ingest`, or the experiment again: both record what they find"
        )
    return facts


def _made(fresh: Path) -> tuple[dict[str, int], list[str]]:
    """A file with everything the store knows; how many facts of each kind, and which were lost."""
    fresh.unlink()  # DuckDB makes its own
    with catalog_database.attached(fresh, catalog_database.WRITABLE) as db:
        return _entered(db, fresh, _facts())


def _entered(db: Connection, path: Path, facts: list[tuple[str, dict]]) -> tuple[dict[str, int], list[str]]:
    counts: dict[str, int] = {}
    lost = []
    catalog_database.migrate(db, path)
    catalog_rows.add_decisions(db, decisions.decisions())
    for what, fact in facts:
        db.execute("BEGIN")
        try:
            catalog_rows.ENTER[what](db, recorded.TYPES[what](**fact))
        except (MissingArtifact, ValidationError) as error:
            db.execute("ROLLBACK")
            lost.append(f"{what} {fact.get('name', '')}: {error}")
        else:
            db.execute("COMMIT")
            counts[what] = counts.get(what, 0) + 1
    return counts, lost


def _wait_until_free(path: Path) -> None:
    """Raises CatalogInUse while another program has the file open; damage does not matter any more."""
    if path.is_file():
        try:
            with catalog_database.attached(path, catalog_database.WRITABLE):
                pass
        except catalog_database.DamagedCatalog:
            pass


def _set_aside(path: Path) -> str | None:
    if not path.is_file():
        return None
    kept = path.with_name(f"{path.name}.before-rebuild")
    wal = path.with_name(f"{path.name}.wal")
    if wal.is_file():
        wal.replace(wal.with_name(f"{kept.name}.wal"))
    return str(path.replace(kept))
