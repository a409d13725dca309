import json
from pathlib import Path

import pyarrow as pa
import pytest

from data_catalog import store
from models.evaluation import results
from models.evaluation.metrics import CLASSES
from models.evaluation.published import Baseline
from models.evaluation.record import InsidePoint
from models.evaluation.results import JSON_FILE, TABLES, read_results, results_of, write_results
from models.evaluation.scores import EvalReport, Score

DOCS = Path(__file__).parents[3] / "docs" / "evaluation" / "results.md"


@pytest.fixture
def eventful(record):
    """The record with a group, a score inside a step, a clean score, concepts and scores on whole sets."""
    recipe = record.recipes[0]
    last = recipe.steps[-1]
    clean = Score(dataset="shapes", metric="accuracy_top1_clean", value=0.5, samples=10, low=0.4, high=0.6)
    inside = InsidePoint(iteration=7, samples=70, scores=last.scores)
    ranks = pa.table({"rank": [0, 1, 0], "target": [0, 0, 1], "confidence": [0.5] * 3, "concept": ["a", "a", "b"]})
    outcomes = {"shapes": store.write_table(ranks.replace_schema_metadata({CLASSES: "2"}))}
    scores = last.scores.model_copy(update={"scores": (*last.scores.scores, clean), "outcomes": outcomes})
    last = last.model_copy(update={"scores": scores, "inside": (inside,), "full": last.scores})
    recipe = recipe.model_copy(update={"steps": (*recipe.steps[:-1], last)})
    changed = {"recipes": (recipe, *record.recipes[1:]), "groups": {"mine": ("shapes", "photos")}}
    return record.model_copy(update=changed)


def selected(table, **values):
    return [row for row in table.to_pylist() if all(row[key] == value for key, value in values.items())]


def test_tables_come_back_from_both_files_as_they_were(eventful, tmp_path):
    tables = results_of(eventful)
    paths = write_results(tables, tmp_path / "out")
    assert [path.name for path in paths] == [*(f"{name}.parquet" for name in TABLES), JSON_FILE]
    assert all(table.num_rows for table in tables.values())
    assert read_results(tmp_path / "out") == read_results(tmp_path / "out" / JSON_FILE) == tables


def test_every_score_of_the_record_is_a_row(eventful):
    scores = results_of(eventful)["scores"]
    recipe = eventful.recipes[0]
    assert len(selected(scores, recipe="zero-shot", step=-1)) == len(eventful.zero_shot.scores)
    assert len(selected(scores, recipe=recipe.name, step=3, iteration=7)) == 8
    assert len(selected(scores, recipe=recipe.name, step=3, images="full")) == 8
    (clean,) = selected(scores, clean=True)
    assert (clean["metric"], clean["value"], clean["low"]) == ("accuracy_top1", 0.5, 0.4)
    roles = {row["dataset"]: row["role"] for row in scores.to_pylist()}
    assert (roles["shapes"], roles["photos"]) == ("adaptation", "retention")


def test_concepts_are_scored_where_outcomes_name_them(eventful):
    rows = results_of(eventful)["concepts"].to_pylist()
    assert {(row["dataset"], row["step"], row["concept"]): (row["value"], row["samples"]) for row in rows} == {
        ("shapes", 3, "a"): (0.5, 2),
        ("shapes", 3, "b"): (1, 1),
    }


def test_concepts_are_followed_through_the_steps(eventful):
    recipe = eventful.recipes[0]
    first = recipe.steps[0].scores.model_copy(update={"outcomes": recipe.steps[-1].scores.outcomes})
    steps = (recipe.steps[0].model_copy(update={"scores": first}), *recipe.steps[1:])
    followed = eventful.model_copy(update={"recipes": (recipe.model_copy(update={"steps": steps}),)})
    rows = results_of(followed)["concepts"].to_pylist()
    assert [(row["step"], row["concept"]) for row in rows] == [(0, "a"), (0, "b"), (3, "a"), (3, "b")]


def test_tables_of_more_rows_than_are_held_at_once_are_the_same(eventful, tmp_path, monkeypatch):
    whole = results_of(eventful)
    monkeypatch.setattr(results, "ROWS_AT_ONCE", 3)
    assert results_of(eventful) == whole
    write_results(results_of(eventful), tmp_path)
    assert read_results(tmp_path) == read_results(tmp_path / JSON_FILE) == whole


def test_summaries_are_those_of_the_record_with_the_groups_beside_them(eventful):
    summaries = results_of(eventful)["summaries"]
    step = eventful.recipes[1].steps[2]
    rows = {row["name"]: row["value"] for row in selected(summaries, recipe=eventful.recipes[1].name, step=2)}
    assert rows.pop("mine") > 0
    assert rows == step.summary.model_dump(exclude={"step"})


def baseline(names):
    metric = {"retrieval_new": "recall_at_5", "captions_held_out": "recall_at_5"}
    scores = [Score(dataset=name, metric=metric.get(name, "accuracy_top1"), value=0.5, samples=100) for name in names]
    return Baseline(name="theirs", report=EvalReport(checkpoint="theirs", scores=scores))


def test_a_baseline_is_a_recipe_beside_the_others(record):
    tables = results_of(record, [baseline([*record.adaptation, *record.retention])])
    assert len(selected(tables["scores"], recipe="theirs")) == 8
    assert [row["value"] for row in selected(tables["summaries"], recipe="theirs")] == [0.5, 0.5, 0.5]


def test_a_baseline_without_all_sets_has_scores_but_no_summary(record):
    tables = results_of(record, [baseline(["photos"])])
    assert len(selected(tables["scores"], recipe="theirs")) == 1
    assert not selected(tables["summaries"], recipe="theirs")


def test_a_baseline_is_summarised_in_the_groups_it_has_all_sets_of(eventful):
    groups = {"mine": ("shapes", "photos"), "more": ("shapes", "broad")}
    found = results_of(eventful.model_copy(update={"groups": groups}), [baseline(["shapes", "photos"])])["summaries"]
    assert [(row["name"], row["value"]) for row in selected(found, recipe="theirs")] == [("mine", 0.5)]


def test_a_baseline_that_could_be_taken_for_a_recipe_is_refused(record):
    other = baseline(["photos"]).model_copy(update={"name": record.recipes[0].name})
    with pytest.raises(ValueError, match="a `name` of its own"):
        results_of(record, [other])


def test_files_that_are_cut_short_are_named(record, tmp_path):
    write_results(results_of(record), tmp_path)
    content = json.loads((tmp_path / JSON_FILE).read_text())
    (tmp_path / JSON_FILE).write_text(json.dumps({"schema": content["schema"], "scores": content["scores"]}))
    with pytest.raises(ValueError, match="lacks summaries, concepts"):
        read_results(tmp_path / JSON_FILE)
    (tmp_path / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"cannot read .*scores\.parquet"):
        read_results(tmp_path)


def test_results_of_another_schema_are_refused(record, tmp_path):
    write_results(results_of(record), tmp_path)
    content = json.loads((tmp_path / JSON_FILE).read_text())
    (tmp_path / JSON_FILE).write_text(json.dumps(content | {"schema": "other/9"}))
    with pytest.raises(ValueError, match="'other/9', expected 'evergreen-results/1'"):
        read_results(tmp_path / JSON_FILE)
    (tmp_path / "scores.parquet").unlink()
    with pytest.raises(ValueError, match="no folder of results"):
        read_results(tmp_path)


def test_the_documented_schema_is_the_one_written():
    documented = DOCS.read_text()
    for name, schema in TABLES.items():
        assert f"## `{name}`" in documented
        for field in schema:
            description = field.metadata[b"description"].decode()
            assert f"| `{field.name}` | {_type(field)} | {description} |" in documented


def _type(field: pa.Field) -> str:
    return {pa.string(): "string", pa.bool_(): "bool"}.get(field.type, str(field.type).replace("double", "float64"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ValueError, match=r"cannot create .*taken/results"):
        write_results({}, tmp_path / "taken" / "results")
