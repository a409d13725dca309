"""Scores with the defects of the benchmark's own evaluation: where they are asked for, and nowhere else."""

import json
from contextlib import nullcontext

import pytest

from flows.evaluate import Evaluation, evaluate
from flows.experiment import parse
from models.evaluation.scores import EvalReport, Score, StepScores
from tests.flows.conftest import raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")


@pytest.fixture
def shrinking(monkeypatch):
    """Sets are cut to half, and what is left to half again."""
    monkeypatch.setattr("data_catalog.subsets.AT_LEAST", 4)
    monkeypatch.setattr("data_catalog.subsets.PER_CLASS", 0)
    raw = raw_experiment()
    return parse(raw | {"evaluation": raw["evaluation"] | {"subset": 0.5}}, "test")


def test_the_profile_paper_adds_scores_and_changes_none(shrinking):
    plain, paper = evaluate(shrinking), evaluate(shrinking, profile="paper")
    assert plain.legacy == ()
    assert (paper.report, paper.summary) == (plain.report, plain.summary)
    left = {score.dataset: score.samples for score in paper.legacy if score.metric == "accuracy_top1_legacy"}
    cut = {score.dataset: score.samples for score in plain.report.scores if score.metric == "accuracy_top1"}
    assert left == {name: max(4, samples // 2) for name, samples in cut.items()}


def test_the_profile_paper_of_other_than_test_images_is_refused():
    raw = raw_experiment()
    asked = raw["evaluation"] | {"images": "validation", "validation": {"share": 0.2}}
    with pytest.raises(ValueError, match="profile paper is of test images"):
        evaluate(parse(raw | {"evaluation": asked}, "test"), profile="paper")


def test_the_command_tells_them_apart_from_the_scores(evergreen, monkeypatch):
    right = Score(dataset="a", metric="accuracy_top1", value=0.5, samples=4)
    wrong = right.model_copy(update={"metric": "accuracy_top1_legacy"})
    report = EvalReport(checkpoint="sha256:" + "0" * 64, scores=[right])
    summary = StepScores(step=-1, knowledge_accumulation=0.5, zero_shot_retention=0.5, geometric_mean=0.5)

    def flow(config, checkpoint, whole, profile):
        return Evaluation(report=report, summary=summary, legacy=(wrong,) if profile == "paper" else ())

    monkeypatch.setattr("flows.evaluate.evaluate", flow)
    monkeypatch.setattr("flows.server.api", nullcontext)
    _, plain, _ = evergreen("evaluate", "flows/configs/demo.yaml", "--json")
    code, paper, _ = evergreen("evaluate", "flows/configs/demo.yaml", "--profile", "paper", "--json")
    assert code == 0
    assert json.loads(paper) == json.loads(plain) | {"legacy": [wrong.model_dump()]}
