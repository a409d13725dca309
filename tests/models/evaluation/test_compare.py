import re

import pytest

from models.evaluation import compare, figures_compare, figures_run, page_compare
from models.evaluation.published import Baseline
from models.evaluation.record import store_record
from models.evaluation.report import Joint, published


@pytest.fixture
def two(rich):
    """Two finished experiments: the second has other names, twice the compute per step, and one recipe."""
    store_record(rich.model_copy(update={"name": "first"}))
    twice = tuple(step.model_copy(update={"mafs_used": 2 * step.mafs_used}) for step in rich.recipes[0].steps)
    other = rich.recipes[0].model_copy(update={"steps": twice})
    store_record(rich.model_copy(update={"name": "second", "recipes": (other,), "config": "name: second\nlr: 1\n"}))
    return ["first-seed0", "second-seed0"]


def test_labels_say_no_more_than_needed(two):
    labels = [contender.label for contender in compare.contenders(two)]
    assert labels == [
        "first-seed0/finetune",
        "first-seed0/replay",
        "first-seed0/replay + merge",
        "second-seed0/finetune",
    ]
    assert [c.label for c in compare.contenders(two[:1])] == ["finetune", "replay", "replay + merge"]
    assert [c.label for c in compare.contenders(["first-seed0/finetune", two[1]])] == two


def test_recipes_are_compared_where_all_have_spent_the_same(two):
    found = compare.contenders(two)
    rows = {row.label: row for row in compare.standings(found)}
    assert compare.common_mafs(found) == pytest.approx(sum(4.9e12 - 1e11 * t for t in range(4)))
    assert rows["first-seed0/finetune"].step == 3 and rows["second-seed0/finetune"].step == 0
    assert rows["second-seed0/finetune"].equal.step == 0 and rows["second-seed0/finetune"].final.step == 3


def test_standings_fall_by_geometric_mean_at_equal_compute(two):
    means = [row.equal.geometric_mean for row in compare.standings(compare.contenders(two))]
    assert means == sorted(means, reverse=True) and means[0] > means[-1]


def test_without_known_compute_the_ends_are_compared(rich):
    blind = [s.model_copy(update={"mafs_used": None}) for s in rich.recipes[0].steps]
    recipes = (rich.recipes[0].model_copy(update={"steps": tuple(blind)}), *rich.recipes[1:])
    store_record(rich.model_copy(update={"name": "blind", "recipes": recipes}))
    found = compare.contenders(["blind-seed0"])
    assert compare.common_mafs(found) is None
    assert all(row.equal == row.final for row in compare.standings(found))
    assert "By compute" not in page_compare.render(found)


def test_the_leader_is_tested_image_by_image(rich):
    store_record(rich.model_copy(update={"name": "first"}))
    found = compare.contenders(["first-seed0"])
    verdicts = compare.against(found, "replay + merge")
    assert [verdict.label for verdict in verdicts] == ["finetune", "replay"]
    gm = verdicts[0].found.summaries[2]
    ends = {c.label: c.recipe.steps[-1].summary.geometric_mean for c in found}
    assert (
        gm.difference == pytest.approx(ends["replay + merge"] - ends["finetune"]) and gm.low < gm.difference < gm.high
    )


def test_runs_without_outcomes_say_so_instead_of_a_p_value(record):
    store_record(record.model_copy(update={"name": "old"}))
    found = compare.contenders(["old-seed0"])
    assert all(
        verdict.found is None and "no outcomes" in verdict.reason for verdict in compare.against(found, "replay")
    )
    assert "no outcomes" in page_compare.render(found)


@pytest.mark.parametrize("names, message", [
    (["first-seed0/finetune"], "one recipe; name two or more"),
    (["first-seed0/best"], "has no recipe 'best', only finetune"),
    (["third-seed0"], "no experiment 'third-seed0'"),
])  # fmt: skip
def test_what_cannot_be_compared_is_refused(two, names, message):
    with pytest.raises(ValueError, match=message):
        compare.contenders(names)


@pytest.mark.parametrize("change, message", [
    ({"retention": ("broad",)}, "means of different sets"), ({"weights": {"broad": 2.0}}, "same `evaluation.weights`"),
])  # fmt: skip
def test_other_means_are_refused(two, rich, change, message):
    store_record(rich.model_copy(update={"name": "third", **change}))
    with pytest.raises(ValueError, match=message):
        compare.contenders([two[0], "third-seed0"])


def test_page_has_all_recipes_their_configurations_and_the_bound(two):
    found = compare.contenders(two)
    page = page_compare.render(found, Joint("all at once", found[0].recipe.steps[-1].summary))
    standings = page[page.index('id="standings"') : page.index('id="beyond-chance"')]
    assert [label for label in re.findall(r"<tr><td>(.*?)</td>", standings)] == [
        *(row.label for row in compare.standings(found)), "all at once (joint)"
    ]  # fmt: skip
    assert "+name: second" in page and "-name: new domains" in page


def test_page_names_who_is_ahead_and_by_how_much(two):
    told = page_compare.render(compare.contenders(two))
    headline = told[told.index('<ul class="verdict">') : told.index("</ul>")]
    assert "Ahead: first-seed0/replay + merge" in headline and re.search(r"behind by 0\.\d+, .*p = ", headline)


def test_a_recipe_keeps_the_colour_of_its_report(two):
    def drawn(found):
        return {trace.name: trace.line.color for trace in figures_compare.over_compute(found).data}

    found = compare.contenders(["first-seed0/replay + merge", "first-seed0/replay"])
    assert [contender.number for contender in found] == [2, 1]
    of_report = figures_run.curves(found[0].record).data
    assert drawn(found) == {trace.name: trace.line.color for trace in of_report if trace.name != "finetune"}


def test_recipes_that_have_one_place_get_colours_of_their_own(two):
    assert [contender.number for contender in compare.contenders(two)] == [0, 1, 2, 3]
    assert [contender.number for contender in compare.contenders([two[1], two[0]])] == [0, 3, 1, 2]


def test_compute_is_written_in_digits(rich):
    recipes = [
        recipe.model_copy(update={"steps": tuple(s.model_copy(update={"mafs_used": 470.7}) for s in recipe.steps)})
        for recipe in rich.recipes
    ]
    store_record(rich.model_copy(update={"name": "small", "recipes": tuple(recipes)}))
    told = page_compare.render(compare.contenders(["small-seed0"]))
    assert "<dd>1,883 MAFs</dd>" in told and '<td class="number">1,883</td>' in told and "e+03" not in told


def test_published_scores_stand_below_the_recipes(two):
    found = compare.contenders(two)
    baseline = Baseline(name="others", report=found[0].record.zero_shot)
    told = page_compare.render(found, published=published(found[0].record, [baseline]))
    value = f"{found[0].record.zero_shot_summary.geometric_mean:.3f}"
    row = "<td>others (published)</td>" + '<td class="number">–</td>' * 5 + f'<td class="number">{value}</td>'
    assert row in told


def test_a_folder_is_no_file_for_the_page(two, tmp_path):
    with pytest.raises(ValueError, match="is a folder; name the file"):
        page_compare.write(compare.contenders(two), tmp_path)
    assert not any(tmp_path.parent.glob(f".{tmp_path.name}*"))
