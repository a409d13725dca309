"""Tables of scores that others have published, as baselines beside our own (reference 9.4).

A table is a JSON object {name, about, scores} with one object per dataset, or a CSV file with one row per dataset and
the name of the file as its own: `dataset`, `percent` (0..100) or `value` (0..1), and, where the dataset is not one of
the benchmark's, `metric` (accuracy_top1 or recall_at_5) and `samples`.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from data_catalog.json_files import read_json
from data_catalog.refs import Spec
from data_catalog.registry import DatasetEntry, benchmark, by_name, close_to
from models.evaluation.intervals import between, generator, resampled_share
from models.evaluation.record import ZERO_SHOT, ExperimentRecord
from models.evaluation.scores import SUMMARY_METRICS, EvalReport, Score
from models.evaluation.summaries import Summary, benchmark_summaries

_FIELDS = ("dataset", "percent", "value", "metric", "samples")


class Baseline(Spec):
    """Published scores of one model; those of benchmark datasets go by our names for them."""

    name: str
    about: str = ""
    report: EvalReport  # its checkpoint is the name of the baseline, which no checkpoint of ours has


class _Row(Spec):
    dataset: str = Field(min_length=1)
    percent: float | None = Field(None, ge=0, le=100)
    value: float | None = Field(None, ge=0, le=1)
    metric: Literal["accuracy_top1", "recall_at_5"] | None = None
    samples: int | None = Field(None, ge=1, le=10**12)


def zero_shot_table() -> Baseline:
    """OpenCLIP ViT-B/32 (LAION-2B) on all 63 datasets of the benchmark, before any update, as published upstream."""
    with as_file(files("data_catalog") / "published_zero_shot.json") as path:
        return read_baseline(path)


def read_baseline(path: Path | str) -> Baseline:
    """A table of published scores; raises ValueError with the file and the row that is wrong.

    Where the number of images is not given it is that of the whole test split of the benchmark's dataset.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no file {path}: give a JSON or CSV table of scores, or zero-shot for the published one")
    name, about, rows = _from_csv(path) if path.suffix.lower() == ".csv" else _from_json(path)
    if not rows:
        raise ValueError(f"{path} holds no score; a row holds {', '.join(_FIELDS)}")
    known = by_name(benchmark())
    scores = [_score(path, row, known.get(row.dataset)) for row in rows]
    names = [score.dataset for score in scores]
    if twice := sorted({dataset for dataset in names if names.count(dataset) > 1}):
        raise ValueError(f"{path} has more than one score of {', '.join(twice)}; leave one row per dataset")
    return Baseline(name=name, about=about, report=EvalReport(checkpoint=name, scores=scores))


def check_beside(record: ExperimentRecord, baselines: Sequence[Baseline]) -> None:
    """Raise ValueError unless each baseline has a name of its own beside `record`, and its metric of every set."""
    taken = Counter([ZERO_SHOT, *(recipe.name for recipe in record.recipes), *(some.name for some in baselines)])
    metrics = _metrics(record.zero_shot)
    for baseline in baselines:
        if taken[baseline.name] > 1:
            raise ValueError(
                f"more than one row of {record.name} would be called {baseline.name!r}: give each baseline once, under "
                "a `name` of its own (for CSV that of the file)"
            )
        found = _metrics(baseline.report)
        if other := [name for name, metric in found.items() if metrics.get(name, metric) != metric]:
            raise ValueError(
                f"{baseline.name} has the {found[other[0]]} of {other[0]}, but {record.name} its {metrics[other[0]]}: "
                "they cannot stand side by side; correct its `metric` or leave it out"
            )


def baseline_summaries(
    baseline: Baseline,
    adaptation: Sequence[str] | None = None,
    retention: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
) -> tuple[Summary, Summary, Summary]:
    """Knowledge accumulation, zero-shot retention and geometric mean over the named sets, else the benchmark's own.

    So a baseline over the sets of a smaller experiment is comparable to it. Raises ValueError for sets it lacks.
    """
    roles = benchmark_roles()
    return benchmark_summaries(
        baseline.report,
        roles["adaptation"] if adaptation is None else adaptation,
        roles["retention"] if retention is None else retention,
        weights,
    )


def benchmark_roles() -> dict[str, tuple[str, ...]]:
    """The benchmark's 41 sets for adaptation and 22 for retention, by our names."""
    return {
        role: tuple(entry.info_prefix for entry in benchmark() if entry.role == role)
        for role in ("adaptation", "retention")
    }


def _metrics(report: EvalReport) -> dict[str, str]:
    return {score.dataset: score.metric for score in report.scores if score.metric in SUMMARY_METRICS}


def _score(path: Path, row: _Row, entry: DatasetEntry | None) -> Score:
    metric = row.metric or (entry and entry.metric)
    samples = row.samples or (entry and entry.samples.get("test"))
    if metric is None or samples is None:
        lacking = " and ".join(name for name, given in (("metric", metric), ("samples", samples)) if given is None)
        names = [name for some in benchmark() for name in (some.handle, some.info_prefix)]
        raise ValueError(
            f"{path}: {row.dataset!r} is not a dataset of the benchmark with known images, so its row needs {lacking}; "
            f"{close_to(row.dataset, names)}"
        )
    if entry and metric != entry.metric:
        raise ValueError(f"{path}: {row.dataset!r} is scored by {entry.metric} in the benchmark, not by {metric}")
    if (row.percent is None) == (row.value is None):
        raise ValueError(f"{path}: the row of {row.dataset!r} needs either `percent` (0..100) or `value` (0..1)")
    value = row.value if row.percent is None else row.percent / 100
    score = Score(dataset=entry.info_prefix if entry else row.dataset, metric=metric, value=value, samples=samples)
    return _with_interval(score) if metric == "accuracy_top1" else score


def _with_interval(score: Score) -> Score:
    hits = round(score.value * score.samples)
    low, high = between(resampled_share(hits, score.samples, generator(score.dataset, score.metric)))
    return score.model_copy(update={"low": low, "high": high})


def _from_json(path: Path) -> tuple[str, str, list[_Row]]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("scores"), list):
        raise ValueError(f"{path} is not a JSON object with a name and a list of scores, one object per dataset")
    return (
        str(content.get("name") or path.stem),
        str(content.get("about") or ""),
        [_row(path, row) for row in content["scores"]],
    )


def _from_csv(path: Path) -> tuple[str, str, list[_Row]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path}: {error}; save it as CSV in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text), restkey="")
    if "dataset" not in (reader.fieldnames or ()):
        found = ", ".join(reader.fieldnames or ()) or "none"
        raise ValueError(
            f"{path} has no column `dataset`, only {found}; its first line names the columns, with commas between them"
        )
    return path.stem, "", [_row(path, {key: cell for key, cell in row.items() if cell}) for row in reader]


def _row(path: Path, row: object) -> _Row:
    try:
        return _Row.model_validate(row)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or ("row" if not isinstance(row, dict) else "a cell without a column")
        raise ValueError(f"{path}: {where} of {row!r}: {fault['msg']}; a row holds {', '.join(_FIELDS)}") from error
