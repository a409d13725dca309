"""The DuckDB catalog: which samples and captions exist and which steps saw them; a view of the store that can be asked.

A lock file beside the database makes our readers and writers take turns, since DuckDB refuses every other process while
one writes. Connections are opened for one transaction and closed, so the wait is short.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import duckdb

from data_catalog import store
from data_catalog.captions import CaptionRef
from data_catalog.places import catalog_path
from data_catalog.refs import Spec
from data_catalog.shards import DatasetRef, facts
from data_catalog.store_files import make_folder
from data_catalog.stream import StreamPlan

MIGRATIONS = ("schema.sql",)  # applied in order, each once; never edit one that was released
WAIT_SECONDS = 60.0  # how long to wait for another process before giving up


def record_ingest(datasets: list[DatasetRef], captions: list[CaptionRef]) -> bool:
    """Make the catalog hold these datasets and captions; False, with the file untouched, if it already does.

    A dataset that changed replaces its samples; captions are versions beside each other.
    """
    if not any(_unrecorded(_recorded(), datasets, captions)):
        return False
    with _writing() as db:  # looked up again: another run may have recorded some of it meanwhile
        fresh, said = _unrecorded(_recorded(db), datasets, captions)
        for dataset in fresh:
            _replace_dataset(db, dataset)
        for ref in said:
            _add_captions(db, ref)
    return True


class TrainedStep(Spec):
    """One step of one recipe of a stream: the data it saw and the checkpoint it made, by digest."""

    recipe: str
    step: int
    step_plan: str
    checkpoint: str


def record_stream(name: str, plan: StreamPlan, steps: Sequence[TrainedStep]) -> bool:
    """Record the stream called `name`: which samples arrive when, what each step trained on and what came of it.

    Replaces what was recorded under that name; False, with the file untouched, if it is recorded like this already.
    """
    rows = sorted((s.recipe, s.step, s.step_plan, s.checkpoint) for s in steps)
    if _recorded_stream(name) == (plan.digest, rows):
        return False
    with _writing() as db:
        for table, column in (("streams", "name"), ("stream_members", "stream"), ("steps", "stream")):
            db.execute(f"DELETE FROM {table} WHERE {column} = ?", [name])
        db.execute(
            "INSERT INTO streams VALUES (?, ?, ?, ?)", [name, plan.digest, len(plan.steps), plan.pretraining_samples]
        )
        db.execute("INSERT INTO stream_members SELECT ?, step, id FROM read_parquet(?)", [name, _file(plan.digest)])
        for row in rows:
            db.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?)", [name, *row])
        for step_plan in sorted({step.step_plan for step in steps}):
            _add_draws(db, step_plan)
    return True


def query(sql: str, parameters: list | None = None) -> list[dict]:
    """The rows that a question in SQL gives, e.g. for an ordering of one's own; none if nothing was ever recorded.

    One SELECT on the tables of the catalog: whatever writes, or reaches for a file or an address, raises ValueError.
    """
    if not catalog_path().is_file():
        return []
    with _turn(exclusive=False), _attached("READ_ONLY") as db:
        db.execute("SET enable_external_access = false; SET lock_configuration = true")
        try:
            kinds = [statement.type for statement in db.extract_statements(sql)]
            if kinds != [duckdb.StatementType.SELECT]:
                raise ValueError(
                    f"the catalog answers one SELECT at a time, not {[kind.name for kind in kinds]}: {sql!r}"
                )
            return _rows(db, sql, parameters)
        except duckdb.Error as error:
            raise ValueError(f"the catalog cannot answer {sql!r}: {error}") from error


def summary() -> list[dict]:
    """Per dataset, by name: kind, digest, samples of each split; counts of concepts, captioned and refused samples."""
    rows = _ask(
        """
        SELECT name AS dataset, kind, digest,
               (SELECT count(*) FROM concepts c WHERE c.dataset = d.name) AS concepts,
               (SELECT count(DISTINCT sample) FROM captions c WHERE c.dataset = d.name) AS captions,
               (SELECT count(*) FROM quarantine q WHERE q.dataset = d.name) AS quarantined
        FROM datasets d ORDER BY name
        """
    )
    splits = _ask("SELECT dataset, split, count(*) AS samples FROM samples GROUP BY ALL ORDER BY ALL")
    return [
        row | {"samples": {s["split"]: s["samples"] for s in splits if s["dataset"] == row["dataset"]}} for row in rows
    ]


def quarantined(dataset: str | None = None) -> list[dict]:
    """What was refused and why (id, dataset, shard, reason), of one dataset or of all."""
    return _ask(
        "SELECT * FROM quarantine WHERE dataset = ? OR ? IS NULL ORDER BY dataset, id, reason", [dataset, dataset]
    )


def checkpoints_with_sample(sample_id: str) -> list[dict]:
    """The checkpoints that a sample helped to train: stream, recipe, step, pool, number of draws, checkpoint."""
    return _ask(
        "SELECT stream, recipe, step, pool, draws, checkpoint FROM steps JOIN step_draws USING (step_plan) "
        "WHERE sample = ? ORDER BY ALL",
        [sample_id],
    )


def samples_of_checkpoint(checkpoint: str) -> list[dict]:
    """What a checkpoint was trained on in its own step: dataset, concept, pool, samples and draws."""
    return _ask(
        "SELECT dataset, concept, pool, count(*) AS samples, sum(draws)::INTEGER AS draws FROM step_draws "
        "WHERE step_plan IN (SELECT step_plan FROM steps WHERE checkpoint = ?) GROUP BY ALL ORDER BY ALL",
        [checkpoint],
    )


def _recorded_stream(name: str) -> tuple[str, list[tuple]] | None:
    found = _ask("SELECT digest FROM streams WHERE name = ?", [name])
    steps = _ask("SELECT recipe, step, step_plan, checkpoint FROM steps WHERE stream = ? ORDER BY ALL", [name])
    return (found[0]["digest"], [tuple(step.values()) for step in steps]) if found else None


def _add_draws(db: duckdb.DuckDBPyConnection, step_plan: str) -> None:
    if not db.execute("SELECT count(*) FROM step_draws WHERE step_plan = ?", [step_plan]).fetchone()[0]:
        db.execute(
            "INSERT INTO step_draws SELECT ?, pool, id, split_part(id, '/', 1), concept, count(*) FROM read_parquet(?) "
            "GROUP BY ALL ORDER BY ALL",
            [step_plan, _file(step_plan)],
        )


def _unrecorded(
    known: dict[tuple[str, str], set[str]], datasets: list[DatasetRef], captions: list[CaptionRef]
) -> tuple[list[DatasetRef], list[CaptionRef]]:
    fresh = [dataset for dataset in datasets if known.get(("samples", dataset.name)) != {dataset.digest}]
    return fresh, [ref for ref in captions if ref.digest not in known.get(("captions", ref.name), set())]


def _recorded(db: duckdb.DuckDBPyConnection | None = None) -> dict[tuple[str, str], set[str]]:
    """The digests the catalog holds now, by kind and dataset name."""
    query = (
        "SELECT 'samples' AS what, name AS dataset, digest FROM datasets "
        "UNION SELECT what, dataset, digest FROM ingest_runs WHERE what = 'captions'"
    )
    found: dict[tuple[str, str], set[str]] = {}
    for row in _rows(db, query) if db else _ask(query):
        found.setdefault((row["what"], row["dataset"]), set()).add(row["digest"])
    return found


def _replace_dataset(db: duckdb.DuckDBPyConnection, dataset: DatasetRef) -> None:
    for table, column in (
        ("datasets", "name"),
        ("samples", "dataset"),
        ("concepts", "dataset"),
        ("quarantine", "dataset"),
    ):
        db.execute(f"DELETE FROM {table} WHERE {column} = ?", [dataset.name])
    known = facts(dataset)
    db.execute(
        "INSERT INTO datasets VALUES (?, ?, ?, ?, ?)",
        [dataset.name, dataset.digest, dataset.kind, known.prompt_template, dataset.quarantine],
    )
    db.execute(
        """
        INSERT INTO samples
        SELECT id, dataset, split, concept, target, shard, "offset", length, hash, width, height, format
        FROM read_parquet(?)
        """,
        [_file(dataset.digest)],
    )
    _add_concepts(db, dataset, list(known.classnames))
    if dataset.quarantine:
        db.execute(
            "INSERT INTO quarantine SELECT id, ?, shard, reason FROM read_parquet(?)",
            [dataset.name, _file(dataset.quarantine)],
        )
    _add_run(db, dataset.name, "samples", dataset.digest)


def _add_concepts(db: duckdb.DuckDBPyConnection, dataset: DatasetRef, classnames: list[str]) -> None:
    if dataset.kind == "classification":
        rows = json.dumps([{"concept": name, "target": target} for target, name in enumerate(classnames)])
        db.execute(
            "INSERT INTO concepts SELECT ?, r.concept, r.target FROM "
            '(SELECT unnest(from_json(?::JSON, \'[{"concept": "VARCHAR", "target": "INTEGER"}]\')) AS r)',
            [dataset.name, rows],
        )
    else:
        db.execute(
            "INSERT INTO concepts SELECT DISTINCT dataset, concept, NULL FROM samples "
            "WHERE dataset = ? AND concept IS NOT NULL ORDER BY concept",
            [dataset.name],
        )


def _add_captions(db: duckdb.DuckDBPyConnection, ref: CaptionRef) -> None:
    db.execute(
        "INSERT INTO captions SELECT sample, ?, kind, texts, captioner, ? FROM read_parquet(?)",
        [ref.name, ref.digest, _file(ref.digest)],
    )
    _add_run(db, ref.name, "captions", ref.digest)


def _add_run(db: duckdb.DuckDBPyConnection, dataset: str, what: str, digest: str) -> None:
    db.execute(
        "INSERT INTO ingest_runs SELECT ?, ?, ?, count(*), now()::TIMESTAMP FROM read_parquet(?)",
        [dataset, what, digest, _file(digest)],
    )


def _file(digest: str) -> str:
    return str(store.locate(digest))


def _ask(query: str, parameters: list | None = None) -> list[dict]:
    """The rows of a query; none if nothing was ever recorded. Leaves the file untouched."""
    if not catalog_path().is_file():
        return []
    with _turn(exclusive=False), _attached("READ_ONLY") as db:
        return _rows(db, query, parameters)


def _rows(db: duckdb.DuckDBPyConnection, query: str, parameters: list | None = None) -> list[dict]:
    cursor = db.execute(query, parameters or [])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextlib.contextmanager
def _writing() -> Iterator[duckdb.DuckDBPyConnection]:
    """A transaction on an up-to-date catalog; nothing of it remains if the block fails."""
    with _turn(exclusive=True), _attached("STORAGE_VERSION 'v1.5.0'") as db:
        db.execute("BEGIN")
        _migrate(db)
        yield db
        db.execute("COMMIT")


def _migrate(db: duckdb.DuckDBPyConnection) -> None:
    db.execute("CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, applied_at TIMESTAMP)")
    done = db.execute("SELECT count(*) FROM schema_migrations").fetchone()[0]
    for number, name in enumerate(MIGRATIONS[done:], start=done + 1):
        db.execute((files("data_catalog") / name).read_text(encoding="utf-8"))
        db.execute("INSERT INTO schema_migrations VALUES (?, now()::TIMESTAMP)", [number])


@contextlib.contextmanager
def _attached(option: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the catalog file, which a process that is not ours may hold for a while."""
    path, deadline = catalog_path(), time.monotonic() + WAIT_SECONDS
    quoted = str(path).replace("'", "''")
    with contextlib.closing(duckdb.connect(config={"python_enable_replacements": False})) as db:
        while True:
            try:
                db.execute(f"ATTACH '{quoted}' AS catalog ({option})")
                break
            except duckdb.IOException as error:
                if "lock" not in str(error).lower():
                    raise ValueError(f"{path} is not a catalog this DuckDB {duckdb.__version__} can open ({error}); "
                                     "delete it, the next run writes it again from the store") from error  # fmt: skip
                _wait(path, deadline, str(error))
        db.execute("USE catalog")
        yield db


@contextlib.contextmanager
def _turn(exclusive: bool) -> Iterator[None]:
    """Our turn at the catalog: readers together, a writer alone, threads and processes alike."""
    path, deadline = catalog_path(), time.monotonic() + WAIT_SECONDS
    make_folder(path.parent)
    with open(path.with_name(f"{path.name}.lock"), "a") as lock:
        while True:
            try:
                fcntl.flock(lock, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait(path, deadline, "another Evergreen process has its turn")
        yield


def _wait(path: Path, deadline: float, reason: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(
            f"the catalog {path} was in use for {WAIT_SECONDS:.0f} s ({reason}); close the program that "
            "has it open, or set EVERGREEN_CATALOG to another file"
        )
    time.sleep(0.05)
