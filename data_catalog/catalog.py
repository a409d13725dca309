"""The catalog: which samples and captions exist and which steps saw them; a view of the store that can be asked.

It lies in a DuckDB file (`catalog_database`) or in a DuckLake (`lake`), and everything here works on both.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from data_catalog import catalog_database, catalog_rows, decisions, descent, lake, recorded
from data_catalog.caption_rows import CaptionRef, CaptionScores
from data_catalog.catalog_database import MIGRATIONS, Connection, rows_of
from data_catalog.catalog_database import DamagedCatalog as DamagedCatalog
from data_catalog.catalog_place import Lake, Place, place
from data_catalog.duplicates import DuplicateGroups
from data_catalog.exclusions import Exclusions
from data_catalog.outage import CatalogInUse as CatalogInUse
from data_catalog.recorded import RecordedStream, TrainedStep
from data_catalog.shards import DatasetRef
from data_catalog.stream import StreamPlan

START = "start"  # the recipe of what was trained before the stream began
STREAMS = "streams"  # the subject of all that is written about them: they share step plans and checkpoints

Entry = tuple[str, Callable[[Connection], None]]  # a subject, and what enters something about it


def record_ingest(datasets: Sequence[DatasetRef], captions: Sequence[CaptionRef]) -> bool:
    """Make the catalog hold these datasets and captions; False, with the file untouched, if it already does.

    A dataset that changed replaces its samples, at once; captions are versions beside each other. After a failure
    the datasets entered before it stay, and the next run enters the rest.
    """
    recorded.remember([*datasets, *captions])
    fresh, said = _unrecorded(query(_RECORDED), datasets, captions)
    if fresh or said:
        entries = [(f"dataset {each.name}", partial(_enter_dataset, each)) for each in fresh]
        write([*entries, *((ref.digest, partial(_enter_captions, ref)) for ref in said)])
    return bool(fresh or said)


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
    write([(STREAMS, lambda db: catalog_rows.replace_stream(db, fact))])
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
    write([])


def exists() -> bool:
    """Whether anything was ever written to the catalog."""
    where = place()
    return lake.exists(where) if isinstance(where, Lake) else where.is_file()


def query(sql: str, parameters: list | None = None) -> list[dict]:
    """The rows that a question in SQL gives, e.g. for an ordering of one's own; none if nothing was ever recorded.

    One SELECT on the tables of the catalog: whatever writes, or reaches for a file or an address, raises ValueError.
    """
    where = place()
    if isinstance(where, Lake):
        lake.refuse_what_reaches_aside(sql)
        version, rows = lake.retried(partial(_asked, where, sql, parameters), where)
    else:
        version, rows = _asked(where, sql, parameters)
    if version in (0, len(MIGRATIONS)):  # 0: all that ever happened is a transaction that failed
        return rows
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
_KNOWN = "SELECT 1 FROM ingest_runs WHERE digest = ?"


def write(entries: Sequence[Entry]) -> None:
    """Enter things in an up-to-date catalog, each in a transaction of its own that may be tried more than once.

    Decisions of the ledger that the catalog lacks are entered by the way.
    """
    where = place()
    if isinstance(where, Lake):
        _write_to_lake(where, entries)
        return
    with catalog_database.writing(where) as db:
        catalog_rows.add_decisions(db, decisions.decisions())
        for _, enter in entries:
            enter(db)
            db.execute("COMMIT; BEGIN")  # an open transaction keeps every Arrow table that it has read


def _write_to_lake(where: Lake, entries: Sequence[Entry]) -> None:
    made = decisions.decisions()

    def add_decisions(db: Connection) -> None:
        if catalog_rows.known_decisions(db) < len(made):
            lake.take_turn(db, "decisions")
            catalog_rows.add_decisions(db, made)

    def entering(subject: str, enter: Callable[[Connection], None], db: Connection) -> None:
        lake.take_turn(db, subject)
        enter(db)

    lake.write(where, add_decisions, *(partial(entering, *entry) for entry in entries))


def _asked(where: Place, sql: str, parameters: list | None) -> tuple[int, list[dict]]:
    """The version of the schema, and the rows if it is ours."""
    with _reading(where) as db:
        version = 0 if db is None else catalog_database.version_of(db, where)
        return version, catalog_database.answer(db, sql, parameters) if version == len(MIGRATIONS) else []


def _reading(where: Place) -> contextlib.AbstractContextManager[Connection | None]:
    return lake.reading(where) if isinstance(where, Lake) else catalog_database.reading(where)


def _record_once(fact: DuplicateGroups | CaptionScores, add: Callable) -> bool:
    recorded.remember([fact])
    if query(_KNOWN, [fact.digest]):
        return False
    write([(fact.digest, partial(_enter_once, fact, add))])
    return True


def _enter_once(fact: DuplicateGroups | CaptionScores, add: Callable, db: Connection) -> None:
    if not rows_of(db, _KNOWN, [fact.digest]):  # another run may have recorded it meanwhile
        add(db, fact)


def _enter_dataset(dataset: DatasetRef, db: Connection) -> None:
    if any(_unrecorded(rows_of(db, _RECORDED), [dataset], [])):
        catalog_rows.replace_dataset(db, dataset)


def _enter_captions(ref: CaptionRef, db: Connection) -> None:
    if any(_unrecorded(rows_of(db, _RECORDED), [], [ref])):
        catalog_rows.add_captions(db, ref)


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
