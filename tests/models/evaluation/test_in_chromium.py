"""The pages in a real browser: what it complains of, loads and draws, and what keys, phones, the dark and paper get."""

import pytest

from models.evaluation import compare, page, page_compare
from models.evaluation.record import MergePoint, store_record
from tests.chromium import CHROMIUM, browsing

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
DRAWN = "document.documentElement.dataset.drawn"
FOCUSABLE = "a[href], summary, [tabindex='0']"


@pytest.fixture(scope="module")
def tab():
    with browsing() as opened:
        yield opened


@pytest.fixture
def report(rich, tmp_path):
    """A report with all its sections, on disk."""
    last = rich.recipes[-1].steps[-1].summary
    merges = tuple(MergePoint(past_weight=weight, summary=last) for weight in (0, 0.5))
    merged = rich.recipes[-1].model_copy(update={"merge_points": merges})
    path = tmp_path / "report.html"
    path.write_text(page.render(rich.model_copy(update={"recipes": (*rich.recipes[:-1], merged)})))
    return path


@pytest.fixture
def comparison(rich, tmp_path):
    """A comparison of two experiments, on disk."""
    for name in ("first", "second"):
        store_record(rich.model_copy(update={"name": name, "recipes": rich.recipes[:2]}))
    return page_compare.write(compare.contenders(["first-seed0", "second-seed0"]), tmp_path / "comparison.html")


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_page_draws_everything_and_neither_complains_nor_loads(tab, request, which):
    tab.show()
    tab.open(request.getfixturevalue(which), until=DRAWN)
    bare = """[...document.querySelectorAll(".plot")].filter((plot) => {
      const box = plot.querySelector(".main-svg")?.getBoundingClientRect();
      return !(box && box.width > 200 && box.height > 50 && plot.querySelector(".trace, .heatmaplayer image"));
    }).map((plot) => plot.ariaLabel)"""
    assert tab.evaluate("document.querySelectorAll('.plot').length") >= 3
    assert tab.evaluate(bare) == []
    assert tab.complaints() == [] and tab.requests() == []


def test_a_complaint_and_a_request_would_be_seen(tab, tmp_path):
    path = tmp_path / "bad.html"
    path.write_text("<img src='http://localhost:9/x.png'><script>console.error('bad'); undefinedFunction();</script>")
    tab.open(path)
    assert len(tab.complaints()) >= 2 and tab.requests() == ["http://localhost:9/x.png"]


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_tab_goes_through_the_page_in_its_order_and_shows_where_it_is(tab, request, which):
    tab.show()
    tab.open(request.getfixturevalue(which), until=DRAWN)
    tab.evaluate(f"""(() => {{
      self.order = [...document.querySelectorAll("{FOCUSABLE}")].filter((one) => one.checkVisibility());
      self.visits = [];
      document.addEventListener("focusin", (event) => self.visits.push(
        [self.order.indexOf(event.target), getComputedStyle(event.target).outlineStyle]));
    }})()""")
    count = tab.evaluate("self.order.length")
    for _ in range(count):
        tab.press("Tab", 9)
    visits = tab.evaluate("self.visits")
    assert count > 10 and [place for place, _ in visits] == list(range(count))
    assert {outline for _, outline in visits} == {"solid"}


def test_a_fold_opens_by_key(tab, report):
    tab.show()
    tab.open(report, until=DRAWN)
    tab.evaluate("document.querySelector('details:not([open]) > summary').focus()")
    tab.evaluate("self.fold = document.activeElement.parentElement; 0")
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    tab.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    assert tab.evaluate("self.fold.open")


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_a_phone_scrolls_down_only(tab, request, which):
    tab.show(width=390, height=844)
    tab.open(request.getfixturevalue(which), until=DRAWN)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert (
        tab.evaluate("Math.max(...[...document.querySelectorAll('h1, p, figcaption')].map((e) => e.scrollWidth))")
        <= 390
    )


def test_odd_and_long_names_are_text_and_fit_a_phone(tab, rich, tmp_path):
    names = ("<script>document.title = 'taken'</script> \"&", "%{x} <b>bold</b>" + "<br>" * 9, "z" * 80)
    recipes = [r.model_copy(update={"name": name}) for r, name in zip(rich.recipes, names, strict=True)]
    path = tmp_path / "odd.html"
    path.write_text(page.render(rich.model_copy(update={"name": "y" * 80, "recipes": tuple(recipes)})))
    tab.show(width=390, height=844)
    tab.open(path, until=DRAWN)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390 and tab.evaluate("document.title[0]") == "y"
    ends = "[...document.querySelectorAll('h1, h3, p, li')].map((e) => e.getBoundingClientRect().left + e.scrollWidth)"
    assert tab.evaluate(f"Math.max(...{ends})") <= 390
    shown = tab.evaluate("[...document.querySelectorAll('.legendtext')].map((one) => one.textContent)")
    assert {label for label in shown if label[0] == "%"} == {"%{x} <b>bold</b><br><b…><br><br>"}
    assert tab.complaints() == [] and tab.requests() == []


def test_a_legend_of_many_lines_does_not_lie_on_its_plot(tab, rich, tmp_path):
    names = [f"a recipe with number {i}" for i in range(8)]
    path = tmp_path / "many.html"
    recipes = tuple(rich.recipes[0].model_copy(update={"name": name}) for name in names)
    path.write_text(page.render(rich.model_copy(update={"recipes": recipes})))
    tab.show(width=390, height=844)
    tab.open(path, until=DRAWN)
    gaps = tab.evaluate("""[...document.querySelectorAll(".plot:has(.legend)")].map((plot) =>
      plot.getBoundingClientRect().top + plot._fullLayout.margin.t
      - plot.querySelector(".legend").getBoundingClientRect().bottom)""")
    assert len(gaps) >= 3 and min(gaps) >= 20  # the title of the first panel


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_from_its_page(tab, report, dark):
    tab.show(dark=dark)
    tab.open(report, until=DRAWN)
    colours = """(() => {
      const of = (one, what) => getComputedStyle(one)[what].match(/[\\d.]+/g).slice(0, 3).map(Number);
      const words = ["body", "a", "summary", ".note", "th", "mark", ".kind"].map((one) => document.querySelector(one));
      const words_of = ".xtitle, .xtick text, .legendtext, .annotation-text, .textpoint text";
      const drawn = [...document.querySelectorAll(".plot")].filter((plot) => !plot.querySelector(".heatmaplayer image"))
        .flatMap((plot) => [...plot.querySelectorAll(words_of)]);  // numbers on cells stand out from these
      return { paper: of(document.body, "backgroundColor"),
               texts: [...words.map((one) => of(one, "color")), ...drawn.map((one) => of(one, "fill"))] };
    })()"""
    found = tab.evaluate(colours)
    assert (sum(found["paper"]) < 200) == dark
    assert min(contrast(text, found["paper"]) for text in found["texts"]) >= 4.5


def test_paper_has_no_folds_but_long_tables(tab, report):
    tab.show()
    tab.open(report)  # before all is drawn
    tab.evaluate("dispatchEvent(new Event('beforeprint')); 0")
    assert tab.evaluate("[...document.querySelectorAll('details:not(.long)')].every((fold) => fold.open)")
    assert tab.evaluate("[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))")
    assert tab.evaluate("Math.max(...[...document.querySelectorAll('.main-svg')].map((e) => e.clientWidth))") == 680


def contrast(text: list[float], paper: list[float]) -> float:
    from models.evaluation.figure_kit import luminance

    lights = sorted((luminance(text), luminance(paper)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)
