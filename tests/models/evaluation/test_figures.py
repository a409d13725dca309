import json

import pytest

from models.evaluation import figures


@pytest.mark.parametrize("name", ["trajectory", "forgotten", "curves", "consumed_mixture", "budget"])
def test_figure_shows_every_recipe(record, name):
    text = json.dumps(getattr(figures, name)(record).to_plotly_json(), default=list)
    assert all(json.dumps(recipe.name) in text for recipe in record.recipes)


def test_trajectory_starts_at_the_zero_shot_point(record):
    lines = [trace for trace in figures.trajectory(record).data if "lines" in trace.mode]
    assert {(round(line.x[0], 6), round(line.y[0], 6)) for line in lines} == {(0.3, 0.7)}
    assert [len(line.x) for line in lines] == [5, 5, 5]


def test_heat_map_keeps_adaptation_and_retention_apart(record):
    maps = [trace for trace in figures.heat_map(record, record.recipes[0]).data if trace.type == "heatmap"]
    assert [tuple(trace.y) for trace in maps] == [record.adaptation, record.retention]
    assert {(trace.zmin, trace.zmax) for trace in maps} == {(0, 1)}


def test_curves_are_thinned_by_averaging(record):
    rows = figures.curve_rows(record.recipes[0], points=10)
    whole = figures.curve_rows(record.recipes[0], points=10_000)
    assert (len(rows), len(whole)) == (10, 480)
    assert sum(row["loss"] for row in rows) / 10 == pytest.approx(sum(row["loss"] for row in whole) / 480)


def test_curves_span_the_stream_in_steps(record):
    rows = figures.curve_rows(record.recipes[0])
    assert 0 < rows[0]["position"] < 0.1 and 3.9 < rows[-1]["position"] < 4


@pytest.mark.parametrize("scale", [figures.SCORE_SCALE, figures.LOSS_SCALE])
def test_numbers_on_cells_are_readable(scale):
    for end in (*scale[:1], *scale[-1:]):
        cell = figures.luminance([int(end[i : i + 2], 16) for i in (1, 3, 5)])
        text = figures.luminance(
            [255.0 if figures.text_colour(float(end == scale[-1]), scale) == "#ffffff" else 0.0] * 3
        )
        assert (max(cell, text) + 0.05) / (min(cell, text) + 0.05) >= 4.5
