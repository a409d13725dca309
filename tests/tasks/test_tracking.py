"""Tracking leaves every step once, however often it is told, and no second copy of the weights."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from safetensors.numpy import save

from data_catalog import store
from data_catalog.store import digest_of
from models.evaluation.record import ExperimentRecord, RecipeRecord, StepRecord
from models.evaluation.scores import EvalReport, Score, StepScores
from tasks import tracking
from tasks.tracking import log_life, log_report, log_step

pytestmark = pytest.mark.usefixtures("own_database")


def step_record(step: int) -> StepRecord:
    deployed = store.write_bytes(save({"weight": np.full(4, step, np.float32)}))
    curves = store.write_table(pa.table({"iteration": range(2000), "loss": [float(step)] * 2000, "lr": [0.1] * 2000}))
    score = Score(dataset="CIFAR10", metric="accuracy_top1", value=0.5, samples=10)
    summary = StepScores(step=step, knowledge_accumulation=0.4, zero_shot_retention=0.9, geometric_mean=0.6)
    return StepRecord(
        step=step,
        scores=EvalReport(checkpoint=deployed, scores=(score,)),
        summary=summary,
        expert=deployed,
        deployed=deployed,
        step_plan=digest_of(b"plan"),
        curves=curves,
        iterations=2000,
        draws={"update": 3, "buffer": 1},
        seconds=1.0,
    )


def log(record: StepRecord) -> None:
    log_step.fn("demo", 0, "finetune", record)


def runs(filter: str = "") -> list:
    client = MlflowClient(tracking.tracking_uri())
    return client.search_runs([client.get_experiment_by_name("demo").experiment_id], filter)


def test_a_step_is_logged_once_under_its_recipe(monkeypatch):
    records = [step_record(0), step_record(1)]
    for record in records:
        log(record)
    monkeypatch.setattr(tracking, "open_tracker", None)  # a second time nothing is even opened
    for record in records:
        log(record)
    parent = next(run for run in runs() if run.info.run_name == "finetune")
    children = runs(f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert sorted(run.data.tags["ckpt.previous"] for run in children) == sorted(["none", records[0].deployed])


def test_scores_curves_and_costs_are_there():
    log(step_record(3))
    metrics = runs("tags.`ckpt.step` = '3'")[0].data.metrics
    assert metrics["accuracy_top1/CIFAR10"] == 0.5 and metrics["draws/buffer"] == 1 and metrics["curve/loss"] == 3


def test_the_checkpoint_is_a_hard_link_into_the_store(tmp_path):
    record = step_record(0)
    log(record)
    (logged,) = (tmp_path / "home/mlartifacts").rglob("model.safetensors")
    assert Path(logged).samefile(store.locate(record.deployed))


def test_an_interrupted_step_is_replaced(monkeypatch):
    record = step_record(0)
    with monkeypatch.context() as patch:
        patch.setattr(tracking, "curve_points", lambda digest: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            log(record)
    log(record)
    assert [tracking.COMPLETE in run.data.tags for run in runs("tags.`ckpt.step` = '0'")] == [True]


def test_a_report_is_logged_once_although_its_stages_differ(tmp_path):
    step = step_record(0)
    (tmp_path / "report.html").write_text("<p>report</p>")
    record = ExperimentRecord(
        name="demo",
        seed=0,
        config="seed: 0",
        adaptation=("CIFAR10",),
        retention=("CIFAR10",),
        zero_shot=step.scores,
        zero_shot_summary=step.summary,
        pretrained=step.deployed,
        recipes=(RecipeRecord(name="finetune", description="", steps=(step,)),),
        stream=(),
        stages=(),
    )
    stage = {"stage": "s", "label": "s", "reused": True, "reason": "unchanged", "seconds": 1.0}
    log_report.fn(record, str(tmp_path / "report.html"))
    log_report.fn(
        ExperimentRecord(**record.model_dump(exclude={"stages"}), stages=[stage]), str(tmp_path / "report.html")
    )
    assert len(runs()) == 1
    figures = {path.stem for path in (tmp_path / "home/mlartifacts").rglob("figures/*.png")}
    assert {"trajectory", "summaries", "forgotten", "datasets-finetune", "training"} <= figures


def living_steps(monkeypatch, count: int) -> list[str]:
    """Digests that stand for so many finished steps of a living stream."""
    steps = {
        f"record {number}": SimpleNamespace(
            record=step_record(number), started_from=f"before {number}",
            verdict=SimpleNamespace(outcome="hold"), arrival=SimpleNamespace(total=3),
        )
        for number in range(count)
    }  # fmt: skip
    monkeypatch.setattr(tracking, "load_step", steps.__getitem__)
    return [*steps]


def test_steps_of_a_living_stream_are_logged_once_and_only_what_is_missing(monkeypatch):
    digests = living_steps(monkeypatch, 3)
    log_life("demo", 0, "main", digests[:2])
    log_life("demo", 0, "main", digests)
    log_life("demo", 0, "main", digests)
    steps = [run for run in runs() if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.info.run_name for run in steps) == ["step 000", "step 001", "step 002"]
    last = max(steps, key=lambda run: run.info.run_name).data.tags
    assert (last["evergreen.verdict"], last["ckpt.previous"]) == ("hold", "before 2")


def test_a_step_whose_weights_were_let_go_is_logged_without_them(monkeypatch):
    digests = living_steps(monkeypatch, 1)
    store.path_of(tracking.load_step(digests[0]).record.deployed).unlink()
    log_life("demo", 0, "main", digests)
    client = MlflowClient(tracking.tracking_uri())
    experiment = client.get_experiment_by_name("demo").experiment_id
    assert len(runs("tags.`ckpt.step` = '0'")) == 1 and not client.search_logged_models([experiment])
