import re

import plotly.graph_objects as go
import pytest
from PIL import Image

from models.evaluation.export import all_figures, export
from models.evaluation.still import image


def test_every_figure_is_written_in_every_format(rich, tmp_path):
    alone = rich.model_copy(update={"recipes": rich.recipes[-1:]})
    paths = export(alone, tmp_path / "out", formats=("png",))
    assert {path.stem for path in paths} == set(all_figures(alone))
    assert {"trajectory", "inside-steps", "stages", "datasets-replay-merge"} <= {path.stem for path in paths}
    assert all(min(Image.open(path).size) > 200 for path in paths)


def test_a_record_that_knows_less_has_fewer_figures(record):
    assert not {"inside-steps", "stages", "merge-weights"} & set(all_figures(record))


def test_pictures_hold_the_words_and_points_of_the_figure(rich):
    drawn = all_figures(rich)
    text = image(drawn["trajectory"], "svg").decode()
    assert all(f">{recipe.name}</text>" in text for recipe in rich.recipes) and "knowledge accumulation" in text
    one = rich.recipes[0]
    fewer = rich.model_copy(update={"recipes": (one.model_copy(update={"steps": one.steps[:1]}),)})
    less = image(all_figures(fewer)["trajectory"], "svg").decode()
    assert less.count("<use ") < text.count("<use ")


def test_cells_of_a_matrix_bear_their_numbers(rich):
    text = image(all_figures(rich)["forgotten"], "svg").decode()
    assert len(re.findall(r">0\.\d\d</text>", text)) == len(rich.recipes) * 8


def test_bars_of_a_stack_stand_on_one_another():
    one = go.Figure([go.Bar(x=["a"], y=[2], name="p"), go.Bar(x=["a"], y=[3], name="q")])
    one.update_layout(height=300, barmode="stack").update_xaxes(type="category")
    other = go.Figure(one).update_layout(barmode="overlay")
    assert image(one, "svg") != image(other, "svg")


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figure_is_the_same_file(rich, kind):
    first, second = (image(all_figures(rich)["budget"], kind) for _ in range(2))
    assert first == second


def test_dollars_and_markup_in_names_are_text():
    drawn = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], mode="lines", name="costs $5<br>and $6"))
    drawn.add_scatter(x=[1, 2], y=[2, 1], mode="lines", name="other").update_layout(height=300, showlegend=True)
    assert "costs $5and $6" in image(drawn, "svg").decode()


def test_every_recipe_has_its_own_heat_map_whatever_it_is_called(record, tmp_path):
    names = ("日本", "中国", "a/b")
    recipes = tuple(r.model_copy(update={"name": name}) for r, name in zip(record.recipes, names, strict=True))
    more = (recipes[2].model_copy(update={"name": "A b"}), recipes[2].model_copy(update={"name": "plain"}))
    found = all_figures(record.model_copy(update={"recipes": (*recipes, *more)}))
    maps = [name for name in found if name.startswith("datasets-")]
    assert maps == ["datasets-0", "datasets-1", "datasets-a-b-2", "datasets-A-b-3", "datasets-plain"]


def test_names_are_pictured_as_they_were_written(record):
    odd = record.recipes[0].model_copy(update={"name": "<i> & $5"})
    text = image(all_figures(record.model_copy(update={"recipes": (odd,)}))["trajectory"], "svg").decode()
    assert "&lt;i&gt; &amp; $5</text>" in text
