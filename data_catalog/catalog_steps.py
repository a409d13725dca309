"""The steps of streams without an end in the catalog: entered one by one, so that the n-th costs what the first did."""

from collections.abc import Sequence

from data_catalog import catalog, catalog_rows, recorded
from data_catalog.catalog_rows import Connection
from data_catalog.recorded import RecordedStep


def record_steps(facts: Sequence[RecordedStep]) -> None:
    """Record steps in stream order, beside those that are there; raises MissingArtifact if what they drew is gone."""
    recorded.remember(facts)

    def enter(db: Connection) -> None:
        for fact in facts:
            catalog_rows.add_step(db, fact)

    catalog.write([(catalog.STREAMS, enter)])


def last_step(stream: str, recipe: str) -> int | None:
    """The newest step that is recorded; None if none is."""
    found = catalog.query("SELECT max(step) AS last FROM steps WHERE stream = ? AND recipe = ?", [stream, recipe])
    return found[0]["last"] if found else None
