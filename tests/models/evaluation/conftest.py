"""A made-up experiment of three recipes, for the tests of what is reported about one."""

import math

import numpy as np
import pyarrow as pa
import pytest

from data_catalog import store
from data_catalog.stream import StepSummary
from models.evaluation.record import ExperimentRecord, RecipeRecord, StageRecord, StepRecord
from models.evaluation.scores import EvalReport, Score, summarise
from tests.models.evaluation.fabricated import with_outcomes

ADAPTATION = ("shapes", "textures", "sketches", "digits", "retrieval_new")
RETENTION = ("broad", "photos", "captions_held_out")
RECIPES = {"finetune": (0.4, -0.3), "replay": (0.33, -0.06), "replay + merge": (0.3, 0.01)}  # gain of KA, of ZS


@pytest.fixture
def record() -> ExperimentRecord:
    """Four steps of three recipes; its curves lie in the store."""
    return experiment(steps=4)


@pytest.fixture
def rich(record, tmp_path) -> ExperimentRecord:
    """The same with outcomes of every image, whole sets, points inside steps, groups and times of stages."""
    return with_outcomes(record, tmp_path / "pictures")


def experiment(steps: int) -> ExperimentRecord:
    zero_shot = report("start", 0.3, 0.7)
    return ExperimentRecord(
        name="new domains <demo>",
        seed=0,
        config="name: new domains\nmixture: {update: 0.34, buffer: 0.33, pretraining: 0.33}\n",
        adaptation=ADAPTATION,
        retention=RETENTION,
        zero_shot=zero_shot,
        zero_shot_summary=summarise(-1, zero_shot, ADAPTATION, RETENTION),
        pretrained=digest("start"),
        recipes=tuple(recipe(name, *gains, steps) for name, gains in RECIPES.items()),
        stream=tuple(
            StepSummary(name=f"step {t}", concepts=5, samples=200, datasets=("shapes",)) for t in range(steps)
        ),
        stages=(
            StageRecord(stage="ingest", label="shapes", reused=True, reason="same inputs, bytes intact", seconds=0.0),
            StageRecord(stage="update", label="finetune, step 0", reused=False, reason="first time", seconds=3.2),
        ),
    )


def recipe(name: str, learned: float, kept: float, steps: int) -> RecipeRecord:
    done = [(t + 1) / steps for t in range(steps)]
    reports = [report(f"{name} {t}", 0.3 + learned * done[t], 0.7 + kept * done[t]) for t in range(steps)]
    records = [
        StepRecord(
            step=t,
            scores=reports[t],
            summary=summarise(t, reports[t], ADAPTATION, RETENTION),
            expert=digest(f"{name} expert {t}"),
            deployed=digest(f"{name} {t}"),
            step_plan=digest(f"plan {t}"),
            curves=curves(t),
            iterations=120,
            draws={"update": 1000, "buffer": 900 if t else 0, "pretraining": 950},
            mafs_planned=5.0e12,
            mafs_used=4.9e12 - 1e11 * t,
            seconds=12.5,
        )
        for t in range(steps)
    ]
    return RecipeRecord(name=name, description=f"{name}: a made-up recipe", steps=records)


def report(checkpoint: str, adaptation: float, retention: float) -> EvalReport:
    """Scores spread around the two means."""
    values = {name: adaptation + 0.05 * (i - 2) for i, name in enumerate(ADAPTATION)}
    values |= {name: retention + 0.08 * (i - 1) for i, name in enumerate(RETENTION)}
    metric = {"retrieval_new": "recall_at_5", "captions_held_out": "recall_at_5"}
    scores = [
        Score(dataset=name, metric=metric.get(name, "accuracy_top1"), value=min(value, 1), samples=300)
        for name, value in values.items()
    ]
    return EvalReport(checkpoint=digest(checkpoint), scores=scores)


def curves(step: int) -> str:
    iterations = 120
    loss = [2.5 * math.exp(-i / 60) + 0.3 + 0.1 * math.sin(i) for i in range(iterations)]
    lr = [1e-4 * min(1, (i + 1) / 12) * (1 + math.cos(math.pi * i / iterations)) / 2 for i in range(iterations)]
    table = {
        "iteration": np.arange(iterations),
        "loss": loss,
        "lr": lr,
        "logit_scale": [2.6] * iterations,
        "gradient_norm": [1.0] * iterations,
        "samples_per_second": [500.0] * iterations,
    }
    return store.write_table(pa.table(table), step=step)


def digest(name: str) -> str:
    return store.digest_of(name.encode())
