"""The results of an experiment as tables for other programs, in Parquet and JSON; docs/evaluation/results.md lists all.

A column keeps its name, type and meaning within one version of the schema; a later one may add columns at the end.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog import store
from data_catalog.json_files import read_json
from data_catalog.store_files import make_folder, replacing, write_atomically
from models.evaluation.metrics import concept_scores
from models.evaluation.published import Baseline, baseline_summaries, check_beside
from models.evaluation.record import ZERO_SHOT, ExperimentRecord
from models.evaluation.scores import CLEAN, SUMMARY_METRICS, EvalReport, primary
from models.evaluation.summaries import Summary, benchmark_summaries, group_summaries
from models.evaluation.transfer import history_of, stability_gaps, step_transfers

SCHEMA = "evergreen-results/1"
JSON_FILE = "results.json"
ROWS_AT_ONCE = 20_000

Row = dict[str, str | int | float | bool | None]


def _schema(**columns: tuple[pa.DataType, str]) -> pa.Schema:
    """Columns whose description ends in "or null" may be null."""
    fields = [
        pa.field(name, kind, nullable=text.endswith("or null"), metadata={"description": text})
        for name, (kind, text) in columns.items()
    ]
    return pa.schema(fields, metadata={"schema": SCHEMA})


_RUN = {
    "experiment": (pa.string(), "name of the experiment"),
    "seed": (pa.int64(), "its seed"),
    "recipe": (pa.string(), "name of the recipe, `zero-shot` before the first update, or the name of a baseline"),
    "step": (pa.int32(), "step of the stream after which it was measured, from 0; -1 before the first update"),
}
_ENDS = {
    "low": (pa.float64(), "lower end of the 95 % bootstrap interval, or null"),
    "high": (pa.float64(), "upper end of the 95 % bootstrap interval, or null"),
}

TABLES = {
    "scores": _schema(
        **_RUN,
        iteration=(pa.int32(), "iterations of the step done, where it was measured inside the step, or null"),
        images=(pa.string(), "`scored`: those of every step; `full`: whole sets, where steps see fixed subsets"),
        checkpoint=(pa.string(), "digest of the weights, or the name of a baseline"),
        dataset=(pa.string(), "evaluation set"),
        role=(pa.string(), "`adaptation`, `retention`, or null"),
        metric=(pa.string(), "name of the metric, without `_clean`"),
        clean=(pa.bool_(), "whether only images without a duplicate among the training images count"),
        value=(pa.float64(), "0..1"),
        samples=(pa.int64(), "images"),
        **_ENDS,
    ),
    "summaries": _schema(
        **_RUN,
        name=(pa.string(), "`knowledge_accumulation`, `zero_shot_retention`, `geometric_mean` or a group of the user"),
        value=(pa.float64(), "0..1"),
        **_ENDS,
    ),
    "concepts": _schema(
        **_RUN,
        dataset=(pa.string(), "evaluation set"),
        concept=(pa.string(), "concept of the images"),
        metric=(pa.string(), "the metric of the summaries: `accuracy_top1` or `recall_at_5`"),
        value=(pa.float64(), "0..1"),
        samples=(pa.int64(), "images of the concept"),
    ),
    "transfer": _schema(
        **_RUN,
        forgetting=(pa.float64(), "mean over sets of best score so far minus score now"),
        gain=(pa.float64(), "mean over sets shown in the step of score now minus before, or null"),
        backward=(pa.float64(), "mean over sets shown earlier of score now minus when last shown, or null"),
        forward=(pa.float64(), "mean over sets shown only later of score now minus at the start, or null"),
    ),
    "stability_gaps": _schema(
        **_RUN,
        dataset=(pa.string(), "evaluation set"),
        before=(pa.float64(), "score after the step before"),
        lowest=(pa.float64(), "lowest score inside the step"),
        iteration=(pa.int32(), "iterations of the step done where it was first that low"),
        after=(pa.float64(), "score after the step"),
        gap=(pa.float64(), "how far the lowest lies below both before and after, at least 0"),
    ),
}


def results_of(record: ExperimentRecord, baselines: Sequence[Baseline] = ()) -> dict[str, pa.Table]:
    """All tables of `TABLES` for one experiment; `baselines` become recipes beside those that were run.

    A baseline is summarised over the sets of the experiment where it has them all. Scores per concept are those of
    every step that was scored, of sets whose outcomes name concepts. Raises MissingArtifact for outcomes that
    have gone, and ValueError for baselines that cannot be told apart or compared.
    """
    check_beside(record, baselines)
    rows = {
        "scores": chain(_score_rows(record), _baseline_score_rows(record, baselines)),
        "summaries": chain(_summary_rows(record), _baseline_summary_rows(record, baselines)),
        "concepts": _concept_rows(record),
        "transfer": _transfer_rows(record),
        "stability_gaps": _gap_rows(record),
    }
    run = {"experiment": record.name, "seed": record.seed}
    return {name: _table(rows[name], run, schema) for name, schema in TABLES.items()}


def _table(rows: Iterator[Row], run: Row, schema: pa.Schema) -> pa.Table:
    """All rows, each with the columns of `run`; few of them are values of Python at a time, since concepts are many."""
    batches = []
    while part := [run | row for row in islice(rows, ROWS_AT_ONCE)]:
        batches.append(pa.RecordBatch.from_pylist(part, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def write_results(tables: dict[str, pa.Table], directory: Path | str) -> list[Path]:
    """Write every table as NAME.parquet and all of them as results.json into `directory`, which is made if need be."""
    directory = Path(directory)
    make_folder(directory)
    paths = [directory / f"{name}.parquet" for name in tables]
    for path, table in zip(paths, tables.values(), strict=True):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        write_atomically(path, sink.getvalue().to_pybytes())
    with replacing(directory / JSON_FILE) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(_json_parts(tables))
        file.flush()
    return [*paths, directory / JSON_FILE]


def _json_parts(tables: dict[str, pa.Table]) -> Iterator[str]:
    """One JSON object with a row per line."""
    yield json.dumps({"schema": SCHEMA})[:-1]
    for name, table in tables.items():
        yield f",\n{json.dumps(name)}: ["
        rows = (row for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE) for row in batch.to_pylist())
        yield from (f"{',' if at else ''}\n{json.dumps(row)}" for at, row in enumerate(rows))
        yield "]"
    yield "}\n"


def read_results(path: Path | str) -> dict[str, pa.Table]:
    """The tables in a folder of `write_results` or in its results.json alone; raises ValueError for another schema."""
    path = Path(path)
    return _read_json(path) if path.is_file() else _read_parquet(path)


def _read_json(path: Path) -> dict[str, pa.Table]:
    content = read_json(path)
    found = content.get("schema") if isinstance(content, dict) else None
    _refuse_other_schema(path, found)
    if lacking := [name for name in TABLES if not isinstance(content.get(name), list)]:
        raise ValueError(f"{path} lacks {', '.join(lacking)}: it is cut short; write the results again")
    return {name: pa.Table.from_pylist(content[name], schema=schema) for name, schema in TABLES.items()}


def _read_parquet(directory: Path) -> dict[str, pa.Table]:
    tables = {}
    for name in TABLES:
        path = directory / f"{name}.parquet"
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: {directory} is no folder of results; write them with evergreen report"
            )
        try:
            tables[name] = pq.read_table(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"cannot read {path}: {error}; write the results again") from error
        found = (tables[name].schema.metadata or {}).get(b"schema")
        _refuse_other_schema(path, found and found.decode())
    return tables


def _refuse_other_schema(path: Path, found: str | None) -> None:
    if found != SCHEMA:
        raise ValueError(f"{path} has the schema {found!r}, expected {SCHEMA!r}; write the results again")


def _score_rows(record: ExperimentRecord) -> Iterator[Row]:
    role = _roles(record)
    for recipe, step, scored, full in _reports(record):
        yield from _rows_of(scored, role, recipe=recipe, step=step, images="scored")
        if full is not None:
            yield from _rows_of(full, role, recipe=recipe, step=step, images="full")
    for recipe in record.recipes:
        for step in recipe.trained:
            for point in step.inside:
                place = {"recipe": recipe.name, "step": step.step, "iteration": point.iteration, "images": "scored"}
                yield from _rows_of(point.scores, role, **place)


def _reports(record: ExperimentRecord) -> Iterator[tuple[str, int, EvalReport, EvalReport | None]]:
    yield ZERO_SHOT, -1, record.zero_shot, record.zero_shot_full
    for recipe in record.recipes:
        for step in recipe.steps:
            yield recipe.name, step.step, step.scores, step.full


def _rows_of(report: EvalReport, role: dict[str, str], **place: str | int) -> Iterator[Row]:
    for score in report.scores:
        row = {"checkpoint": report.checkpoint, "role": role.get(score.dataset)} | score.model_dump()
        row |= {"clean": score.metric.endswith(CLEAN), "metric": score.metric.removesuffix(CLEAN)}
        yield place | row


def _summary_rows(record: ExperimentRecord) -> Iterator[Row]:
    for recipe, step, scored, _ in _reports(record):
        summaries = benchmark_summaries(scored, record.adaptation, record.retention, record.weights)
        groups = group_summaries(scored, record.groups, record.weights)
        yield from (_summary_row(recipe, step, summary) for summary in (*summaries, *groups))


def _summary_row(recipe: str, step: int, summary: Summary) -> Row:
    return {"recipe": recipe, "step": step} | summary.model_dump(exclude={"datasets"})


def _concept_rows(record: ExperimentRecord) -> Iterator[Row]:
    for recipe, step, report, _ in _reports(record):
        metrics = {score.dataset: score.metric for score in report.scores if score.metric in SUMMARY_METRICS}
        for dataset, digest in report.outcomes.items():
            outcomes = store.read_table(digest)
            if "concept" in outcomes.column_names:
                kind = "classification" if metrics[dataset] == "accuracy_top1" else "retrieval"
                found = concept_scores(dataset, kind, outcomes, bootstrap=False)
                for concept, score in found.items():
                    row = {"recipe": recipe, "step": step, "concept": concept}
                    yield row | score.model_dump(exclude={"low", "high"})


def _transfer_rows(record: ExperimentRecord) -> Iterator[Row]:
    for recipe in record.recipes:
        yield from (
            {"recipe": recipe.name} | transfer.model_dump() for transfer in step_transfers(history_of(record, recipe))
        )


def _gap_rows(record: ExperimentRecord) -> Iterator[Row]:
    for recipe in record.recipes:
        yield from ({"recipe": recipe.name} | gap.model_dump() for gap in stability_gaps(record, recipe))


def _baseline_score_rows(record: ExperimentRecord, baselines: Sequence[Baseline]) -> Iterator[Row]:
    for baseline in baselines:
        yield from _rows_of(baseline.report, _roles(record), recipe=baseline.name, step=-1, images="full")


def _baseline_summary_rows(record: ExperimentRecord, baselines: Sequence[Baseline]) -> Iterator[Row]:
    """Of each the means that it has all sets of: those of the benchmark, and the user's groups."""
    for baseline in baselines:
        scored = primary(baseline.report)
        found = []
        if scored.keys() >= {*record.datasets}:
            found += baseline_summaries(baseline, record.adaptation, record.retention, record.weights)
        groups = {name: sets for name, sets in record.groups.items() if scored.keys() >= {*sets}}
        found += group_summaries(baseline.report, groups, record.weights)
        yield from (_summary_row(baseline.name, -1, summary) for summary in found)


def _roles(record: ExperimentRecord) -> dict[str, str]:
    return dict.fromkeys(record.retention, "retention") | dict.fromkeys(record.adaptation, "adaptation")
