"""Makes the catalog again from the store, when its file is lost, damaged or of another DuckDB."""

from pathlib import Path

from pydantic import ValidationError

from data_catalog import catalog, catalog_rows, decisions, recorded
from data_catalog.catalog_rows import Connection
from data_catalog.places import catalog_path
from data_catalog.refs import Spec
from data_catalog.store import MissingArtifact
from data_catalog.store_files import move_into_place, scratch_file


class Rebuilt(Spec):
    """What came of making the catalog again."""

    entered: dict[str, int]  # kind of fact -> how many
    lost: tuple[str, ...]  # what could not be entered, and why
    kept: str | None  # where the former file lies now, None if there was none


def rebuild() -> Rebuilt:
    """Enter everything that the store says was recorded in a new file, and put it in the place of the former one.

    Raises ValueError if nothing is known to have been recorded.
    """
    path, facts = catalog_path(), recorded.standing()
    if not facts:
        raise ValueError(
            "the store does not say that anything was recorded, so there is nothing to rebuild the catalog from; "
            "run `evergreen ingest`, or the experiment again: both record what they find"
        )
    with catalog.turn(path, exclusive=True), scratch_file(path.parent, path.name) as fresh:
        _wait_until_free(path)
        fresh.unlink()  # DuckDB makes its own
        with catalog.attached(fresh, catalog.WRITABLE) as db:
            entered, lost = _entered(db, fresh, facts)
        kept = _set_aside(path)
        move_into_place(fresh, path)
    return Rebuilt(entered=entered, lost=tuple(lost), kept=kept)


def _entered(db: Connection, path: Path, facts: list[tuple[str, dict]]) -> tuple[dict[str, int], list[str]]:
    counts: dict[str, int] = {}
    lost = []
    catalog.migrate(db, path)
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
            with catalog.attached(path, catalog.WRITABLE):
                pass
        except catalog.DamagedCatalog:
            pass


def _set_aside(path: Path) -> str | None:
    if not path.is_file():
        return None
    kept = path.with_name(f"{path.name}.before-rebuild")
    wal = path.with_name(f"{path.name}.wal")
    if wal.is_file():
        wal.replace(wal.with_name(f"{kept.name}.wal"))
    return str(path.replace(kept))
