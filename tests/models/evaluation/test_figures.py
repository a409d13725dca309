import json

import pytest

from models.evaluation import figure_kit, figures, figures_run, figures_trajectory
from models.evaluation.published import Baseline
from models.evaluation.report import Joint, published
from models.evaluation.summary_intervals import all_intervals

DRAWN = {
    "trajectory": lambda record: figures_trajectory.trajectory(record, all_intervals(record)),
    "over steps": lambda record: figures.over_steps(record, all_intervals(record)),
    "forgotten": figures.forgotten,
    "transfers": figures.transfers,
    "inside steps": figures.inside_steps,
    "curves": figures_run.curves,
    "mixture": figures_run.consumed_mixture,
    "budget": figures_run.budget,
}


@pytest.mark.parametrize("name", DRAWN)
def test_figure_shows_every_recipe(rich, name):
    record = rich
    text = json.dumps(DRAWN[name](record).to_plotly_json(), default=list)
    assert all(json.dumps(recipe.name) in text for recipe in record.recipes)


def test_trajectory_starts_at_the_zero_shot_point(record):
    lines = [
        trace for trace in figures_trajectory.trajectory(record, all_intervals(record)).data if "lines" in trace.mode
    ]
    assert {(round(line.x[0], 6), round(line.y[0], 6)) for line in lines} == {(0.3, 0.7)}
    assert [len(line.x) for line in lines] == [5, 5, 5]


def test_heat_map_keeps_adaptation_and_retention_apart(record):
    maps = [trace for trace in figures.heat_map(record, record.recipes[0]).data if trace.type == "heatmap"]
    assert [tuple(trace.y) for trace in maps] == [record.adaptation, record.retention]
    assert {(trace.zmin, trace.zmax) for trace in maps} == {(0, 1)}


def test_curves_are_thinned_by_averaging(record):
    rows = figures_run.curve_rows(record.recipes[0].steps, points=10)
    whole = figures_run.curve_rows(record.recipes[0].steps, points=10_000)
    assert (len(rows), len(whole)) == (10, 480)
    assert sum(row["loss"] for row in rows) / 10 == pytest.approx(sum(row["loss"] for row in whole) / 480)


def test_curves_span_the_stream_in_steps(record):
    rows = figures_run.curve_rows(record.recipes[0].steps)
    assert 0 < rows[0]["position"] < 0.1 and 3.9 < rows[-1]["position"] < 4


@pytest.mark.parametrize("scale", [figure_kit.SCORE_SCALE, figure_kit.LOSS_SCALE])
def test_numbers_on_cells_are_readable(scale):
    for end in (*scale[:1], *scale[-1:]):
        cell = figure_kit.luminance([int(end[i : i + 2], 16) for i in (1, 3, 5)])
        text = figure_kit.luminance(
            [255.0 if figure_kit.text_colour(float(end == scale[-1]), scale) == "#ffffff" else 0.0] * 3
        )
        assert (max(cell, text) + 0.05) / (min(cell, text) + 0.05) >= 4.5


def test_joint_training_is_drawn_across_the_trajectory(record):
    bound = Joint("everything", record.recipes[0].steps[-1].summary)
    plain, crossed = (figures_trajectory.trajectory(record, all_intervals(record), joint) for joint in (None, bound))
    assert (len(plain.layout.shapes), len(crossed.layout.shapes)) == (0, 2)
    assert "everything" in [note.text for note in crossed.layout.annotations]


def test_the_ends_of_a_trajectory_have_their_intervals(record, rich):
    bars = [trace for trace in figures_trajectory.trajectory(rich, all_intervals(rich)).data if trace.error_x.array]
    assert len(bars) == len(rich.recipes) + 1
    known = all_intervals(rich)[rich.recipes[0].name, 3]
    assert bars[0].x[0] + bars[0].error_x.array[0] == pytest.approx(known.knowledge_accumulation[1])
    assert bars[0].x[0] - bars[0].error_x.arrayminus[0] == pytest.approx(known.knowledge_accumulation[0])


def test_many_columns_have_colours_without_numbers(record):
    recipe = record.recipes[0]
    wide = recipe.model_copy(update={"steps": recipe.steps * 10})
    assert {trace.type for trace in figures.heat_map(record, recipe).data} == {"heatmap", "scatter"}
    assert {trace.type for trace in figures.heat_map(record, wide).data} == {"heatmap"}


def test_timeline_marks_what_was_reused(rich):
    executed, known = figures_run.timeline(rich).data
    assert (list(executed.y), list(known.y)) == (["update"], ["ingest"])
    assert executed.base[0] == pytest.approx(110 - 3.2 - 100)


def test_records_that_do_not_say_when_stages_ran_have_no_timeline(record):
    assert not figures_run.has_timeline(record)


def test_names_are_text_however_they_are_written():
    assert figure_kit.label("<b>a</b> %{x} & b") == "&lt;b&gt;a&lt;/b&gt; &#37;{x} &amp; b"
    assert len(figure_kit.label("x" * 80)) == figure_kit.MOST_LETTERS


def test_long_names_of_rows_stay_apart():
    alike, other = ["a" * 40 + letter + "a" * 40 for letter in "xy"], "b" * 80
    assert figure_kit.labels([*alike, other]) == [*alike, figure_kit.label(other)]


def test_hovering_over_a_recipe_shows_its_name_as_it_was_written(record):
    odd = record.recipes[0].model_copy(update={"name": "<b>%{y}"})
    text = json.dumps(figures_run.curves(record.model_copy(update={"recipes": (odd,)})).to_plotly_json(), default=list)
    assert '"name": "&lt;b&gt;&#37;{y}"' in text and '"hovertemplate": "&lt;b&gt;&#37;{y}<br>' in text


def test_many_recipes_have_marks_of_their_own():
    looks = [(figure_kit.colour(number), figure_kit.symbol(number)) for number in range(40)]
    assert len(set(looks)) == 40


def test_published_scores_are_points_of_the_trajectory(record):
    baseline = Baseline(name="<others>", report=record.recipes[1].steps[0].scores)
    lacking = Baseline(name="few", report=record.zero_shot.model_copy(update={"scores": record.zero_shot.scores[:2]}))
    drawn = figures_trajectory.trajectory(
        record, all_intervals(record), published=published(record, [baseline, lacking])
    )
    point = next(trace for trace in drawn.data if trace.name == "&lt;others&gt;")
    summary = record.recipes[1].steps[0].summary
    assert (point.x[0], point.y[0]) == (summary.knowledge_accumulation, summary.zero_shot_retention)
    assert "few" not in {trace.name for trace in drawn.data}
