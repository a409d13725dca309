import re
from html.parser import HTMLParser

import pytest
from plotly.offline import get_plotlyjs_version

from models.evaluation.page import render
from models.evaluation.page_parts import number, plotting_library, table
from models.evaluation.published import Baseline
from models.evaluation.report import Joint, published
from models.evaluation.scores import clean_metric


class Elements(HTMLParser):
    """Collects (tag, attributes) of every element."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture
def page(record):
    return render(record).replace(plotting_library(), "")


def test_page_carries_its_plotting_library(record):
    library = plotting_library()
    assert library in render(record)
    assert "Permission is hereby granted, free of charge" in library[:1500]


def test_plotting_library_is_of_the_version_that_the_figures_are_made_for():
    assert f"(cartesian - minified) v{get_plotlyjs_version()}" in plotting_library()[:1500]


def test_page_loads_nothing(page):
    for _, attributes in Elements(page).found:
        assert not {"src", "srcset"} & set(attributes)
        assert attributes.get("href", "data:,")[0] in "d#"
    assert not re.search(r"https?://|@import|url\(", page)
    assert "default-src 'none'" in page


def test_every_recipe_is_named_in_the_verdict(page, record):
    headline = page[page.index('<ul class="verdict">') : page.index("</ul>")]
    assert all(recipe.name in headline for recipe in record.recipes)


def test_every_figure_has_a_spoken_description(page, record):
    plots = [attributes for _, attributes in Elements(page).found if attributes.get("class") == "plot"]
    assert len(plots) == len(record.recipes) + 7  # a heat map each, and seven for all
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 40 for plot in plots)


def test_every_figure_has_its_numbers_in_a_table(page):
    figures = re.findall(r"<figure>.*?</figure>", page, re.S)
    assert figures and all("<details" in figure and "<table" in figure for figure in figures)


def test_names_from_outside_are_escaped(page):
    assert "new domains &lt;demo&gt;" in page
    assert "<demo>" not in page


def test_page_says_when_no_budget_was_set(record):
    steps = [step.model_copy(update={"mafs_planned": None, "mafs_used": None}) for step in record.recipes[0].steps]
    recipe = record.recipes[0].model_copy(update={"steps": tuple(steps)})
    assert "No budget in MAFs was set" in render(record.model_copy(update={"recipes": (recipe,)}))


def test_scores_on_clean_images_stand_beside_the_others_where_leaks_were_looked_for(page, record):
    assert 'id="on-clean-images-alone"' not in page
    steps = [recipe.steps[-1] for recipe in record.recipes]
    score = steps[0].scores.scores[0]
    clean = score.model_copy(update={"metric": clean_metric(score.metric), "value": 0.123, "samples": 7})
    seen = steps[0].scores.model_copy(update={"scores": (*steps[0].scores.scores, clean)})
    first = record.recipes[0].model_copy(
        update={"steps": (*record.recipes[0].steps[:-1], steps[0].model_copy(update={"scores": seen}))}
    )
    told = render(record.model_copy(update={"recipes": (first, *record.recipes[1:])}))
    section = told[told.index('id="on-clean-images-alone"') :]
    assert '<td class="number">0.123</td>' in section[: section.index("</section>")]


def test_sections_are_linked_from_the_top(page):
    found = Elements(page).found
    links = [attributes["href"][1:] for tag, attributes in found if tag == "a"]
    assert links and links == [attributes["id"] for tag, attributes in found if tag == "section"]


def test_what_a_record_knows_has_its_section(page, rich):
    more = {"inside-steps", "on-whole-sets"}
    told = render(rich)
    assert not any(f'id="{name}"' in page for name in more) and all(f'id="{name}"' in told for name in more)
    assert "<h3>Groups of sets</h3>" in told and "drawn: shapes, sketches" in told


def test_summaries_have_their_intervals(rich):
    told = render(rich)
    assert re.search(r"<td>zero-shot</td><td>start</td><td>0\.\d{3} \(0\.\d{3}\sto\s0\.\d{3}\)</td>", told)


def test_joint_training_is_named_with_its_scores(record):
    bound = Joint("all at once", record.recipes[0].steps[-1].summary)
    told = render(record, bound)
    assert "<td>all at once</td><td>joint</td><td>0.700</td>" in told


def test_published_scores_have_a_row_or_the_reason_why_not(record):
    few = record.zero_shot.model_copy(update={"scores": record.zero_shot.scores[1:]})
    baselines = [Baseline(name="<others>", report=record.zero_shot), Baseline(name="few", report=few)]
    told = render(record, published=published(record, baselines))
    assert "<td>&lt;others&gt;</td><td>published</td><td>0.300</td><td>0.700</td>" in told
    assert "<td>few</td>" not in told
    assert "few is not shown: it has no scores of 1 of the sets here (shapes)." in told


@pytest.mark.parametrize("value, text", [(1882.7, "1,883"), (0.5, "0.500"), (-1234.5, "-1,234"), (1.9e13, "1.9e+13")])
def test_numbers_are_written_as_people_write_them(value, text):
    assert number(value) == text


def test_long_names_may_break_in_tables():
    told = table(["recipe"], [["a" * 41], ["b" * 40]], "names")
    assert f'<td class="long">{"a" * 41}</td>' in told and f"<td>{'b' * 40}</td>" in told
