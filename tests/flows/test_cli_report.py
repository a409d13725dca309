import json
from pathlib import Path

import pytest

from data_catalog import places
from models.evaluation.record import store_record
from tests.models.evaluation.conftest import experiment


@pytest.fixture
def finished(evergreen):
    """A finished experiment, and a table of scores on all of its sets that others have published."""
    record = experiment(steps=2).model_copy(update={"name": "made"})
    store_record(record)
    return record


@pytest.fixture
def table(finished, tmp_path):
    rows = [f"{s.dataset},{s.value / 2},{s.metric},{s.samples}" for s in finished.zero_shot.scores]
    path = tmp_path / "theirs.csv"
    path.write_text("\n".join(["dataset,value,metric,samples", *rows]))
    return path


def test_published_scores_stand_on_the_page_of_the_report(evergreen, table):
    code, out, err = evergreen("report", "made-seed0", "--baseline", table, "--json")
    assert code == 0, err
    page = Path(json.loads(out)["report"]).read_text()
    assert "<td>theirs</td><td>published</td><td>0.150" in page


def test_published_scores_stand_in_the_comparison(evergreen, table, tmp_path):
    code, _, err = evergreen("compare", "made-seed0", "--baseline", table, "--output", tmp_path / "page.html")
    assert code == 0 and "not shown" not in err
    assert "<td>theirs (published)</td>" in (tmp_path / "page.html").read_text()


def test_published_scores_of_other_sets_are_named_with_what_they_lack(evergreen, finished):
    code, _, err = evergreen("report", "made-seed0", "--baseline", "zero-shot")
    assert code == 0 and "it has no scores of 8 of the sets here (shapes, textures" in err


def test_a_comparison_is_not_written_over_a_folder(evergreen, finished, tmp_path):
    code, _, err = evergreen("compare", "made-seed0", "--output", tmp_path)
    assert code == 2 and "is a folder; name the file" in err and "Traceback" not in err


def test_a_table_that_is_not_there_is_bad_input(evergreen, finished):
    code, _, err = evergreen("report", "made-seed0", "--baseline", "nothing.csv")
    assert code == 2 and "no file nothing.csv" in err


def test_a_table_that_would_pass_for_a_recipe_writes_no_page(evergreen, finished, table):
    code, out, err = evergreen("report", "made-seed0", "--baseline", table.rename(table.with_name("replay.csv")))
    assert code == 2 and out == "" and "replay" in err
    assert not list(places.home().glob("reports/*"))
