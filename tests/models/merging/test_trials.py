"""Which trials of a search are worth a look."""

import numpy as np
import pytest

from models.evaluation.scores import EvalReport, Score, StepScores
from models.merging.linear import Linear
from models.merging.trials import SearchReport, non_dominated, trials, validated


class NamedSet:
    def __init__(self, name):
        self.name = name


def scores(*points):
    return [StepScores(step=0, knowledge_accumulation=k, zero_shot_retention=z, geometric_mean=(k * z) ** 0.5)
            for k, z in points]  # fmt: skip


def searched(*points):
    candidates = [Linear(weights=(i / 10, 1 - i / 10)) for i in range(len(points))]
    return trials(candidates, ["sha256:" + "0" * 64] * len(points), scores(*points))


@pytest.mark.parametrize("points, front", [
    ([(0.5, 0.5)], [True]),
    ([(0.2, 0.8), (0.8, 0.2), (0.5, 0.5)], [True, True, True]),
    ([(0.2, 0.8), (0.2, 0.7), (0.1, 0.8)], [True, False, False]),
    ([(0.3, 0.3), (0.3, 0.3)], [True, True]),  # equals do not beat each other
])  # fmt: skip
def test_the_front_is_what_nothing_beats(points, front):
    assert non_dominated(np.array(points)).tolist() == front


def test_the_best_has_the_highest_geometric_mean_and_is_on_the_front():
    found = searched((0.9, 0.1), (0.5, 0.5), (0.5, 0.5), (0.1, 0.9))
    assert [trial.is_best for trial in found] == [False, True, False, False] and found[1].on_front


def test_rows_come_best_first_with_what_was_set():
    report = SearchReport(experiment="x", recipe="r", step=1, merged=("a",), adaptation=("A",), retention=("B",),
                          trials=searched((0.9, 0.1), (0.5, 0.5)))  # fmt: skip
    first, second = report.rows()
    assert (first["best"], second["best"], first["settings"]) == ("yes", "", "weights=[0.1, 0.9]")
    assert report.best.geometric_mean == first["geometric_mean"] == 0.5


def test_a_summary_is_over_validation_scores_alone():
    values = {"A/validation": 0.4, "A": 1.0, "B/validation": 0.9, "C/validation": 0.0}
    report = EvalReport(checkpoint="x", scores=[
        Score(dataset=name, metric="accuracy_top1", value=value, samples=5) for name, value in values.items()
    ])  # fmt: skip
    found = validated(report, 2, ["A", "D"], ["B"], [NamedSet(name) for name in values if "/" in name])
    assert (found.step, found.knowledge_accumulation, found.zero_shot_retention) == (2, 0.4, 0.9)
