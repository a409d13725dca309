"""Scores with the defects of the benchmark's own evaluation: where they are asked for, and nowhere else."""

import pytest

from flows.evaluate import evaluate
from flows.experiment import parse
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
