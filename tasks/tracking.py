"""What a run leaves in MLflow: the one file that imports it, always late, since that takes seconds.

MLflow is a view: nothing here is read back to decide what to do, everything is written again if it is gone. Each run
carries a key of its content; one that is complete is left alone, one that was interrupted is replaced.
"""

import contextlib
import json
import math
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from data_catalog import store
from data_catalog.outage import Outage
from data_catalog.places import home
from data_catalog.store import digest_of
from data_catalog.store_files import make_folder
from models.evaluation.export import export
from models.evaluation.record import ExperimentRecord, StepRecord, UnscoredStep
from models.evaluation.scores import EvalReport, StepScores
from models.exporting import place_weights
from models.living import load_step
from tasks.caching import uncached
from tasks.locks import exclusive

CURVES = ("loss", "penalty", "lr", "samples_per_second", "logit_scale", "gradient_norm", "same_concept")
POINTS = 500  # of a curve in MLflow; the store keeps all of them
BATCH = 1000  # metrics per request, the limit of MLflow
KEY, COMPLETE = "evergreen.key", "evergreen.complete"


@uncached(label="track {recipe} step {record.step}")
def log_step(experiment: str, seed: int, recipe: str, record: UnscoredStep, config: str = "") -> None:
    """Log one finished step, at once or again: its scores if it has any, curves, cost, lineage and checkpoint.

    `config` is the text that defines the recipe; a changed one starts another parent run of the same name.
    """
    parent_key = key_of("recipe", experiment, seed, recipe, config)
    told = record.scores.model_dump() if isinstance(record, StepRecord) else None
    inside = [point.model_dump() for point in record.inside]
    key = key_of("step", parent_key, record.step, told, record.expert, record.deployed, *([inside] if inside else []))
    if _is_logged(key):
        return
    with open_tracker(experiment) as tracker:
        tags = {"evergreen.experiment": experiment, "evergreen.seed": seed, "evergreen.recipe": recipe,
                "evergreen.config": digest_of(config.encode())}  # fmt: skip
        parent = tracker.find_or_create(recipe, parent_key, tags)
        if not tracker.finished(key):
            _write_step(tracker, parent, key, record)


def log_life(stream: str, seed: int, recipe: str, digests: Sequence[str]) -> None:
    """Log the steps of a living stream that MLflow lacks, oldest first; `digests`: of their records.

    It lacks all after the newest one that is there, since none is logged before those that precede it.
    """
    parent_key = key_of("life", stream, seed, recipe)
    keys = [key_of("living step", parent_key, digest) for digest in digests]
    if not keys or _is_logged(keys[-1]):
        return
    with open_tracker(stream) as tracker:
        tags = {"evergreen.experiment": stream, "evergreen.seed": seed, "evergreen.recipe": recipe}
        parent = tracker.find_or_create(recipe, parent_key, tags)
        known = next((place for place in reversed(range(len(keys))) if tracker.finished(keys[place])), -1)
        for digest, key in zip(digests[known + 1 :], keys[known + 1 :], strict=True):
            step = load_step(digest)
            about = {"evergreen.verdict": step.verdict.outcome, "evergreen.arrived": step.arrival.total,
                     "ckpt.previous": step.started_from}  # fmt: skip
            _write_step(tracker, parent, key, step.record, about)


@uncached(label="track report {record.name}")
def log_report(record: ExperimentRecord, html: str | Path) -> None:
    """Log the finished experiment: its record, zero-shot scores, figures and the page at the path `html`."""
    key = key_of("report", record.model_copy(update={"stages": ()}).model_dump(mode="json"))
    if _is_logged(key):
        return
    with open_tracker(record.name) as tracker:
        if tracker.finished(key):
            return
        tags = {"evergreen.experiment": record.name, "evergreen.seed": record.seed, "ckpt.sha256": record.pretrained}
        run = tracker.create("report", key, tags)
        tracker.log(run, _headlines(record.zero_shot_summary) | _scores(record.zero_shot), step=0)
        tracker.client.log_text(run, record.model_dump_json(indent=1), "record.json")
        tracker.client.log_text(run, record.config, "config.yaml")
        tracker.client.log_artifact(run, str(html))
        with tempfile.TemporaryDirectory() as folder:
            export(record, Path(folder), formats=("png",))
            tracker.client.log_artifacts(run, folder, "figures")
        tracker.finish(run)


class MLflowFailed(Outage):
    """MLflow does not answer or refuses; what it was to be told is not lost."""


class Tracker:
    """One MLflow experiment, written to through the client only: no global active run, so threads do not meet."""

    def __init__(self, client, experiment_id: str):
        self.client, self.experiment_id = client, experiment_id

    def find(self, key: str) -> list:
        """All runs with this key."""
        return list(self.client.search_runs([self.experiment_id], f"tags.`{KEY}` = '{key}'"))

    def finished(self, key: str) -> bool:
        """Whether a complete run has this key; interrupted ones are deleted."""
        runs = self.find(key)
        for run in runs:
            if COMPLETE not in run.data.tags:
                self._delete(run.info.run_id)
        return any(COMPLETE in run.data.tags for run in runs)

    def create(self, name: str, key: str, tags: dict) -> str:
        """The id of a fresh run."""
        text = {KEY: key} | {name: str(value) for name, value in tags.items()}
        return self.client.create_run(self.experiment_id, run_name=name, tags=text).info.run_id

    def find_or_create(self, name: str, key: str, tags: dict) -> str:
        """The id of the run with this key."""
        runs = self.find(key)
        return runs[0].info.run_id if runs else self.create(name, key, tags | {COMPLETE: "parent"})

    def log(self, run: str, values: dict[str, float], step: int, model: str | None = None) -> None:
        """Write one value per metric; those that are not known are left out."""
        self.log_points(run, [(name, value, step) for name, value in values.items() if value is not None], model)

    def log_points(self, run: str, points: list[tuple[str, float, int]], model: str | None = None) -> None:
        """Write (metric, value, step) points."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step, model_id=model) for name, value, step in points]
        for start in range(0, len(metrics), BATCH):
            self.client.log_batch(run, metrics=metrics[start : start + BATCH])

    def finish(self, run: str) -> None:
        """Mark a run as complete; from now on it is never written again."""
        self.client.set_tag(run, COMPLETE, "yes")
        self.client.set_terminated(run)

    def _delete(self, run: str) -> None:
        for model in self.client.search_logged_models([self.experiment_id], f"source_run_id = '{run}'"):
            self.client.delete_logged_model(model.model_id)
        self.client.delete_run(run)


def _write_step(
    tracker: Tracker, parent: str, key: str, record: UnscoredStep, about: Mapping[str, object] | None = None
) -> None:
    tags = {"mlflow.parentRunId": parent, "ckpt.sha256": record.deployed, "ckpt.expert": record.expert,
            "ckpt.previous": _previous(tracker, parent, record.step), "ckpt.step": record.step,
            "step_plan.sha256": record.step_plan, "curves.sha256": record.curves, **(about or {})}  # fmt: skip
    run = tracker.create(f"step {record.step:03d}", key, tags)
    is_there = store.is_intact(record.deployed)  # housekeeping may have let old ones go
    model = _log_checkpoint(tracker, run, record) if is_there else None
    if isinstance(record, StepRecord):
        tracker.log(run, _headlines(record.summary) | _scores(record.scores), record.step, model)
        tracker.log(parent, _headlines(record.summary), record.step)
    tracker.log(run, costs_of(record), record.step)
    tracker.log_points(run, curve_points(record.curves))
    inside = [(f"inside/{n}", v, point.iteration) for point in record.inside for n, v in _scores(point.scores).items()]
    tracker.log_points(run, inside)
    tracker.client.set_tag(parent, f"ckpt.step{record.step:03d}", record.deployed)
    tracker.client.set_terminated(parent)
    tracker.finish(run)


def _log_checkpoint(tracker: Tracker, run: str, record: UnscoredStep) -> str:
    """Register the deploy weights as a LoggedModel whose file is a hard link into the store: no copy, no pickle."""
    tags = {"ckpt.sha256": record.deployed, "ckpt.step": str(record.step)}
    name = f"{record.deployed[7:19]}-step{record.step:03d}"
    model = tracker.client.create_logged_model(tracker.experiment_id, name=name, source_run_id=run, tags=tags)
    if (folder := folder_of(model)) is not None:
        make_folder(folder)
        place_weights(record.deployed, folder / "model.safetensors", link=True)
    tracker.client.finalize_logged_model(model.model_id, "READY")
    return model.model_id


def folder_of(model) -> Path | None:
    """The folder of a LoggedModel's files, None where they lie on a server or in object storage."""
    place = model.artifact_location.removeprefix("file://")
    return Path(place) if place.startswith("/") else None


def _previous(tracker: Tracker, parent: str, step: int) -> str:
    tags = tracker.client.get_run(parent).data.tags
    return tags.get(f"ckpt.step{step - 1:03d}", "none")


def _headlines(summary: StepScores) -> dict[str, float]:
    return summary.model_dump(exclude={"step"})


def _scores(report: EvalReport) -> dict[str, float]:
    return {f"{score.metric}/{score.dataset}": score.value for score in report.scores}


def costs_of(record: UnscoredStep) -> dict[str, float]:
    """What a step cost, by metric."""
    costs = record.model_dump(include={"iterations", "mafs_planned", "mafs_used", "seconds"})
    return costs | {f"draws/{pool}": count for pool, count in record.draws.items()}


def curve_points(digest: str) -> list[tuple[str, float, int]]:
    """Stored curves as (metric, value, iteration), at most so many points each."""
    table = store.read_table(digest)
    every = math.ceil(table.num_rows / POINTS) or 1
    rows = table.take(pa.array(range(0, table.num_rows, every))).to_pylist()
    names = [name for name in CURVES if name in table.column_names]
    return [(f"curve/{name}", row[name], row["iteration"]) for row in rows for name in names if row[name] is not None]


def key_of(*parts: object) -> str:
    """The key of a run with this content."""
    return digest_of(json.dumps(parts, sort_keys=True).encode())[7:39]


def tracking_uri() -> str:
    """Where MLflow keeps what it is told (MLFLOW_TRACKING_URI, by default a file in the home)."""
    return os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{home() / 'mlflow.db'}")


def _is_logged(key: str) -> bool:
    """Whether the local database has a complete run with this key."""
    query = ("SELECT 1 FROM runs JOIN tags k USING (run_uuid) JOIN tags c USING (run_uuid) "
             "WHERE lifecycle_stage = 'active' AND k.key = ? AND k.value = ? AND c.key = ?")  # fmt: skip
    return bool(rows_of((query, (KEY, key, COMPLETE)))[0])


def rows_of(*queries: tuple[str, Sequence[str]]) -> list[list[tuple]]:
    """What the local database has to each query, all read at once; spares a re-run the import of mlflow, 5 s.

    Nothing, if there is no such database, or its tables are others: MLflow has never been here, or keeps them
    differently now.
    """
    file = Path(tracking_uri().removeprefix("sqlite:///"))
    if not file.is_file():
        return [[] for _ in queries]
    with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=60)) as database:
        try:
            return [database.execute(query, values).fetchall() for query, values in queries]
        except sqlite3.OperationalError:
            return [[] for _ in queries]


@contextlib.contextmanager
def open_tracker(experiment: str) -> Iterator[Tracker]:
    """The experiment of that name; one writer at a time, since two first uses of a database race.

    Raises MLflowFailed where MLflow does not answer or refuses.
    """
    with exclusive(home() / "mlflow.lock"):
        from mlflow import MlflowClient, set_tracking_uri
        from mlflow.exceptions import MlflowException

        set_tracking_uri(tracking_uri())  # a client of its own looks models up when it registers them
        try:
            client = MlflowClient(tracking_uri())
            found = client.get_experiment_by_name(experiment)
            local = (home() / "mlartifacts").as_uri() if tracking_uri().startswith("sqlite:") else None
            yield Tracker(client, found.experiment_id if found else client.create_experiment(experiment, local))
        except MlflowException as error:
            raise MLflowFailed(
                f"MLflow at {tracking_uri()} could not be written ({str(error)[:300]}); nothing depends on it: once it "
                "answers, the same command, or `evergreen registry` for a living stream, writes what is missing"
            ) from error
