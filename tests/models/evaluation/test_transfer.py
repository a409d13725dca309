import numpy as np
import pytest

from models.evaluation.record import InsidePoint
from models.evaluation.scores import EvalReport, Score
from models.evaluation.transfer import (
    backward_transfer,
    forgetting,
    forward_transfer,
    gain,
    history,
    history_of,
    stability_gaps,
    step_transfers,
)

NAN = float("nan")


def report(**values):
    scores = [Score(dataset=name, metric="accuracy_top1", value=value, samples=100) for name, value in values.items()]
    return EvalReport(checkpoint="sha256:" + "0" * 64, scores=scores)


@pytest.fixture
def three_steps():
    """`a` is shown first and third, `b` second, `c` never."""
    reports = [
        report(a=0.2, b=0.3, c=0.9),
        report(a=0.8, b=0.4, c=0.8),
        report(a=0.5, b=0.7, c=0.7),
        report(a=0.9, b=0.6, c=0.8),
    ]
    return history((-1, 0, 1, 2), ("a", "b", "c"), reports, [[], ["a"], ["b"], ["a"]])


def test_forgetting_is_measured_from_the_best_score_so_far(three_steps):
    expected = [[0, 0, 0], [0, 0, 0.1], [0.3, 0, 0.2], [0, 0.1, 0.1]]
    assert forgetting(three_steps) == pytest.approx(np.array(expected))


def test_backward_transfer_is_measured_from_the_last_showing(three_steps):
    expected = [[NAN, NAN, NAN], [NAN, NAN, NAN], [-0.3, NAN, NAN], [NAN, -0.1, NAN]]
    assert backward_transfer(three_steps) == pytest.approx(np.array(expected), nan_ok=True)


def test_of_several_showings_the_last_counts():
    reports = [report(a=value) for value in (0.2, 0.8, 0.5, 0.9, 0.6)]
    shown_twice = history((-1, 0, 1, 2, 3), ("a",), reports, [[], ["a"], [], ["a"], []])
    assert backward_transfer(shown_twice)[-1, 0] == pytest.approx(-0.3)


def test_forward_transfer_is_that_of_datasets_still_to_come(three_steps):
    expected = [[0, 0, NAN], [NAN, 0.1, NAN], [NAN, NAN, NAN], [NAN, NAN, NAN]]
    assert forward_transfer(three_steps) == pytest.approx(np.array(expected), nan_ok=True)


def test_gain_is_that_of_datasets_just_shown(three_steps):
    expected = [[NAN, NAN, NAN], [0.6, NAN, NAN], [NAN, 0.3, NAN], [0.4, NAN, NAN]]
    assert gain(three_steps) == pytest.approx(np.array(expected), nan_ok=True)


def test_means_over_datasets_are_null_where_none_is_meant(three_steps):
    first, second, third = step_transfers(three_steps)
    assert (first.step, first.backward, first.forward) == (0, None, pytest.approx(0.1))
    assert (second.backward, second.forward) == (pytest.approx(-0.3), None)
    assert (third.gain, third.forgetting) == (pytest.approx(0.4), pytest.approx(0.2 / 3))


def test_a_dataset_without_a_score_is_named():
    with pytest.raises(ValueError, match="step 0 was not scored on b"):
        history((-1, 0), ("a", "b"), [report(a=0.1, b=0.2), report(a=0.1)], [[], []])


def test_steps_left_out_of_scoring_still_showed_their_datasets(record):
    names = ("shapes", "digits", "sketches", "shapes")
    stream = [part.model_copy(update={"datasets": (name,)}) for part, name in zip(record.stream, names, strict=True)]
    recipe = record.recipes[0].model_copy(update={"steps": record.recipes[0].steps[1::2]})
    found = history_of(record.model_copy(update={"stream": tuple(stream)}), recipe)
    assert found.steps == (-1, 1, 3)
    shown = [{name for name, flag in zip(found.datasets, row, strict=True) if flag} for row in found.shown]
    assert shown == [set(), {"shapes", "digits"}, {"sketches", "shapes"}]


def with_inside(record, step, *points):
    recipe = record.recipes[0]
    inside = tuple(InsidePoint(iteration=i, samples=i * 10, scores=report(**scores)) for i, scores in points)
    steps = [s.model_copy(update={"inside": inside}) if s.step == step else s for s in recipe.steps]
    return recipe.model_copy(update={"steps": tuple(steps)})


def test_the_stability_gap_is_what_was_lost_for_a_while_only(record):
    low = {"photos": 0.1, "broad": 0.99}
    recipe = with_inside(record, 1, (10, {"photos": 0.3, "broad": 0.99}), (20, low), (30, low))
    photos, broad = stability_gaps(record, recipe)
    before, after = (next(s.value for s in step.scores.scores if s.dataset == "photos") for step in recipe.steps[:2])
    assert (photos.lowest, photos.iteration) == (0.1, 20)
    assert photos.gap == pytest.approx(min(before, after) - 0.1)
    assert broad.gap == 0


def test_what_a_step_has_yet_to_learn_is_no_gap_where_its_start_is_not_known(record):
    recipe = with_inside(record, 1, (10, {"photos": 0.3}))
    assert [gap.step for gap in stability_gaps(record, recipe)] == [1]
    assert stability_gaps(record, recipe.model_copy(update={"steps": recipe.steps[1:]})) == ()


def test_without_scores_inside_there_is_no_gap_to_speak_of(record):
    assert stability_gaps(record, record.recipes[0]) == ()
