"""The rows that datasets, captions, streams and decisions have in the catalog; each function fills open tables."""

from collections.abc import Callable
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog import descent, store, stream
from data_catalog.caption_rows import CAME_ALONG, GIVEN, CaptionRef, CaptionScores, Origin, Texts, caption_rows, flat
from data_catalog.decisions import Decision
from data_catalog.duplicates import DuplicateGroups
from data_catalog.recorded import RecordedStep, RecordedStream, TrainedStep, What
from data_catalog.shards import DatasetRef, facts

SAID = ("text", "caption_kind", "captioner", "marked")  # of a draw, in a step plan
BATCH = 100_000  # samples whose texts are in memory at a time


class Connection(Protocol):
    """What is needed of a DuckDB connection; only `catalog_database.py` knows the engine."""

    def execute(self, query: str, parameters: list | None = None) -> Any:
        """Run a query."""

    def register(self, view_name: str, python_object: pa.Table) -> Any:
        """Let queries read an Arrow table by name."""

    def unregister(self, view_name: str) -> Any:
        """Forget the name again."""


def replace_dataset(db: Connection, dataset: DatasetRef) -> None:
    """The samples of a dataset, the texts they came with, its concepts and what was refused.

    They take the place of those of an earlier version.
    """
    samples, known = _file(dataset.digest), facts(dataset)
    _clear(db, dataset.name, "dataset", "samples", "concepts", "quarantine")
    _clear(db, dataset.name, "name", "datasets")
    db.execute("DELETE FROM captions WHERE dataset = ? AND captioner = ?", [dataset.name, CAME_ALONG])
    db.execute(
        "INSERT INTO datasets BY NAME SELECT ? AS name, ? AS digest, ? AS kind, ? AS prompt_template, "
        "? AS quarantine, ? AS year",
        [dataset.name, dataset.digest, dataset.kind, known.prompt_template, dataset.quarantine, known.year],
    )
    db.execute(
        "INSERT INTO samples BY NAME SELECT id, dataset, split, concept, target, shard, \"offset\", length, hash, "
        "width, height, format, phash, attributes FROM read_parquet(?)",
        [samples],
    )  # fmt: skip
    _add_given(db, dataset)
    _add_concepts(db, dataset, list(known.classnames))
    if dataset.quarantine:
        db.execute(
            "INSERT INTO quarantine BY NAME SELECT id, ? AS dataset, shard, code, reason FROM read_parquet(?)",
            [dataset.name, _file(dataset.quarantine)],
        )
    _add_run(db, dataset.name, "samples", dataset.digest)


def add_captions(db: Connection, ref: CaptionRef) -> None:
    """The texts of one captioner for one dataset, beside those that are there."""
    db.execute(
        "INSERT INTO captions BY NAME SELECT sample, ? AS dataset, position, kind, text, captioner, model, prompt, "
        "settings, words, leak, fallback, ? AS version FROM read_parquet(?)",
        [ref.name, ref.digest, _file(ref.digest)],
    )
    _add_run(db, ref.name, "captions", ref.digest)


def add_scores(db: Connection, scores: CaptionScores) -> None:
    """How well texts fit their images to a checkpoint, beside the scores that are there."""
    db.execute(
        "INSERT INTO caption_scores BY NAME SELECT sample, position, clip_score, ? AS dataset, ? AS captions, "
        "? AS checkpoint, ? AS version FROM read_parquet(?)",
        [scores.name, scores.captions, scores.checkpoint, scores.digest, _file(scores.digest)],
    )
    _add_run(db, scores.name, "scores", scores.digest)


def add_duplicates(db: Connection, groups: DuplicateGroups) -> None:
    """The members of groups of samples that show the same picture, beside those of earlier searches."""
    db.execute(
        'INSERT INTO duplicates BY NAME SELECT sample, dataset, split, "group" AS grp, kind, distance, ? AS version '
        "FROM read_parquet(?)",
        [groups.digest, _file(groups.digest)],
    )
    _add_run(db, "", "duplicates", groups.digest)


def replace_stream(db: Connection, recorded: RecordedStream) -> None:
    """The members of a stream, its trained steps with what they drew, and the descent of their checkpoints."""
    name, plan = recorded.name, recorded.plan
    _clear(db, name, "stream", "stream_members", "steps", "exclusions")
    _clear(db, name, "name", "streams")
    db.execute(
        "INSERT INTO streams VALUES (?, ?, ?, ?)", [name, plan.digest, len(plan.steps), plan.pretraining_samples]
    )
    for dataset in stream.datasets_of(plan):  # one at a time: DuckDB joins inside its own memory limit
        db.execute(
            "INSERT INTO stream_members SELECT ?, plan.step, its.id FROM read_parquet(?) plan JOIN "
            "read_parquet(?, file_row_number => true) its ON plan.row = its.file_row_number WHERE plan.dataset = ?",
            [name, _file(plan.digest), _file(dataset.digest), dataset.name],
        )
    for removed in recorded.exclusions:
        db.execute(
            "INSERT INTO exclusions SELECT ?, ?, ?, sample, reason FROM read_parquet(?)",
            [name, removed.effect, removed.cause, _file(removed.digest)],
        )
    columns = ("recipe", "step", "step_plan", "checkpoint", "deployed")
    steps = pa.Table.from_pylist([step.model_dump(include=set(columns)) for step in recorded.steps], _STEPS)
    _insert(db, "INSERT INTO steps BY NAME SELECT ? AS stream, * FROM rows", steps, [name])
    for step_plan in sorted({step.step_plan for step in recorded.steps}):
        _add_draws(db, step_plan)
    _add_descent(db, recorded.steps)


def add_step(db: Connection, recorded: RecordedStep) -> None:
    """One step of a stream without an end, beside those before it: what came with it, what it drew, its weights."""
    name, step = recorded.name, recorded.step
    _clear(db, name, "name", "streams")
    db.execute(
        "INSERT INTO streams VALUES (?, ?, ?, ?)", [name, recorded.plan, recorded.steps, recorded.pretraining_samples]
    )
    db.execute("DELETE FROM stream_members WHERE stream = ? AND step = ?", [name, step.step])
    db.execute(
        "INSERT INTO stream_members SELECT ?, ?, regexp_replace(key, '#[0-9a-f]*$', '') FROM read_parquet(?)",
        [name, step.step, _file(recorded.arrival)],
    )  # a key is an id, # and the hash of the content
    for each in (*recorded.starts, step):
        _add_draws(db, each.step_plan)
        place = [name, each.recipe, each.step]
        db.execute("DELETE FROM steps WHERE stream = ? AND recipe = ? AND step = ?", place)
        db.execute(
            "INSERT INTO steps BY NAME SELECT ? AS stream, ? AS recipe, ? AS step, ? AS step_plan, ? AS checkpoint, "
            "? AS deployed",
            [*place, each.step_plan, each.checkpoint, each.deployed],
        )
    _add_younger(db, [digest for digest in (step.checkpoint, step.deployed) if digest])


def known_decisions(db: Connection) -> int:
    """How many decisions of the ledger the catalog has."""
    return db.execute("SELECT coalesce(max(number), 0) FROM decisions").fetchall()[0][0]


def add_decisions(db: Connection, made: list[Decision]) -> None:
    """The decisions of the ledger that the catalog lacks."""
    for decision in made[known_decisions(db) :]:
        row = [decision.number, decision.time, decision.kind, decision.rule, decision.reason]
        db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?)", row)
        samples = pa.table({"sample": pa.array(decision.samples, pa.string())})
        _insert(db, "INSERT INTO decided_samples SELECT ?, sample FROM rows", samples, [decision.number])


_STEPS = pa.schema(
    [
        ("recipe", pa.string()),
        ("step", pa.int32()),
        ("step_plan", pa.string()),
        ("checkpoint", pa.string()),
        ("deployed", pa.string()),
    ]
)


ENTER: dict[What, Callable[[Connection, Any], None]] = {
    "samples": replace_dataset,
    "captions": add_captions,
    "scores": add_scores,
    "duplicates": add_duplicates,
    "stream": replace_stream,
    "step": add_step,
}


def _add_given(db: Connection, dataset: DatasetRef) -> None:
    """The texts that a dataset came with, as `given_rows` has them, some samples at a time."""
    sample_table = pq.ParquetFile(_file(dataset.digest))
    for batch in sample_table.iter_batches(BATCH, columns=["id", *GIVEN.values()]):
        part = pa.table(batch)
        texts = [Texts(kind, Origin(CAME_ALONG), *flat(part[field])) for kind, field in GIVEN.items()]
        _insert(
            db,
            "INSERT INTO captions BY NAME SELECT *, ? AS dataset, ? AS version FROM rows",
            caption_rows(part["id"], texts),
            [dataset.name, dataset.digest],
        )


def _add_concepts(db: Connection, dataset: DatasetRef, classnames: list[str]) -> None:
    if dataset.kind == "classification":
        rows = pa.table({"concept": pa.array(classnames, pa.string()), "target": range(len(classnames))})
        _insert(db, "INSERT INTO concepts SELECT ?, concept, target FROM rows", rows, [dataset.name])
    else:
        db.execute(
            "INSERT INTO concepts SELECT DISTINCT dataset, concept, NULL FROM samples "
            "WHERE dataset = ? AND concept IS NOT NULL ORDER BY concept",
            [dataset.name],
        )


def _add_draws(db: Connection, step_plan: str) -> None:
    """How often a step plan holds each sample, per pool and text; recorded once, whoever trains on it."""
    if db.execute("SELECT 1 FROM step_draws WHERE step_plan = ? LIMIT 1", [step_plan]).fetchall():
        return
    file = _file(step_plan)
    present = set(pq.read_schema(file).names)
    said = ", ".join(name if name in present else f"NULL AS {name}" for name in SAID)  # older plans say less
    db.execute(
        "INSERT INTO step_draws BY NAME SELECT ? AS step_plan, pool, id AS sample, split_part(id, '/', 1) AS dataset, "
        f"concept, {said}, count(*) AS draws FROM read_parquet(?) GROUP BY ALL",
        [step_plan, file],
    )


def _add_descent(db: Connection, steps: tuple[TrainedStep, ...]) -> None:
    """From which weights those of the steps descend, recipe by recipe."""
    for recipe in sorted({step.recipe for step in steps}):
        ours = [step for step in steps if step.recipe == recipe]
        known = descent.family(digest for step in ours for digest in (step.checkpoint, step.deployed) if digest)
        for table, rows in (("parents", descent.parent_rows(known)), ("ancestors", descent.ancestor_rows(known))):
            names = pa.table({"checkpoint": list(known)})
            _insert(db, f"DELETE FROM checkpoint_{table} WHERE checkpoint IN (FROM rows)", names, [])
            _insert(db, f"INSERT INTO checkpoint_{table} FROM rows", rows, [])


def _add_younger(db: Connection, checkpoints: list[str]) -> None:
    """From which weights checkpoints descend that come after those the catalog knows."""
    rows = db.execute("SELECT checkpoint FROM checkpoint_ancestors WHERE distance = 0").fetchall()
    found = descent.family(checkpoints, {digest for (digest,) in rows})
    _insert(db, "INSERT INTO checkpoint_parents FROM rows", descent.parent_rows(found), [])
    for child, parents in found.items():
        db.execute(
            "INSERT INTO checkpoint_ancestors SELECT ?, ancestor, min(distance) + 1 FROM checkpoint_ancestors "
            "WHERE checkpoint IN (SELECT unnest(?::VARCHAR[])) GROUP BY ancestor UNION ALL SELECT ?, ?, 0",
            [child, sorted({digest for digest, _ in parents}), child, child],
        )


def _insert(db: Connection, query: str, rows: pa.Table, parameters: list) -> None:
    db.register("rows", rows)
    try:
        db.execute(query, parameters)
    finally:
        db.unregister("rows")


def _clear(db: Connection, value: str, column: str, *tables: str) -> None:
    for table in tables:
        db.execute(f"DELETE FROM {table} WHERE {column} = ?", [value])


def _add_run(db: Connection, name: str, kind: str, digest: str) -> None:
    db.execute(
        "INSERT INTO ingest_runs SELECT ?, ?, ?, count(*), now()::TIMESTAMP FROM read_parquet(?)",
        [name, kind, digest, _file(digest)],
    )


def _file(digest: str) -> str:
    return str(store.locate(digest))
