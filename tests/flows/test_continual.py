"""The whole chain, once; then what a second look at it executes."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from data_catalog import lineage, places, store
from data_catalog.store import read_table
from flows.continual import continual_pretrain
from flows.experiment import parse
from flows.ingest import ingest
from models.evaluation.record import load_record
from tasks.journal import ALWAYS, journal
from tests.flows.conftest import living_in, raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")


@pytest.fixture(scope="module")
def first_life(prefect_backend, tmp_path_factory):
    """A home in which the tiny experiment was run once, its report and the stages that ran."""
    home = tmp_path_factory.mktemp("life") / "home"
    with living_in(home):
        return home, *lived(raw_experiment())


@pytest.fixture
def home(first_life, tmp_path, monkeypatch):
    """A copy of that home, to be spoiled."""
    shutil.copytree(first_life[0], tmp_path / "home", symlinks=True)
    return tmp_path / "home"


def lived(raw):
    with journal() as stages:
        report = continual_pretrain(parse(raw, "test"))
    return report, [stage for stage in stages if stage.reason != ALWAYS]


def executed(stages):
    return {stage.label for stage in stages if not stage.reused}


def test_a_second_run_executes_nothing_and_scores_the_same(first_life, home):
    _, first, stages = first_life
    assert (
        Counter(stage.stage for stage in stages if not stage.reused)["update_weights"] == 5
    )  # pretraining, 2 x 2 steps
    second, again = lived(raw_experiment())
    assert executed(again) == set() and len(again) == len(stages)
    assert (second.accumulation, second.retention) == (first.accumulation, first.retention)


def test_the_last_merge_is_tried_from_its_expert_to_its_past(first_life, home):
    plain, merged = load_record(first_life[1].digest).recipes
    assert plain.merge_points == ()
    assert [point.past_weight for point in merged.merge_points] == [0, 1]
    assert len([some for some in first_life[2] if some.label == "evaluate merged past weights"]) == 1  # in one pass
    assert merged.merge_points[1].summary.model_copy(update={"step": 0}) == merged.steps[0].summary


def test_a_lost_checkpoint_is_made_again_and_nothing_else(first_life, home):
    record = load_record(first_life[1].digest)
    store.locate(record.recipes[1].steps[0].deployed).unlink()
    report, stages = lived(raw_experiment())
    assert executed(stages) == {"merge merged step 0"}
    assert load_record(report.digest).recipes == record.recipes


def test_a_changed_test_image_repeats_ingest_and_scores_but_no_training(home):
    raw = parse(raw_experiment(), "test").sources[0]
    folder = next(path for path in sorted(Path(raw.root()).iterdir()) if path.is_dir() and path.name.isupper())
    first, other = sorted((folder / "test").rglob("*.*"))[:2]
    first.write_bytes(other.read_bytes())
    _, stages = lived(raw_experiment())
    ran = executed(stages)
    assert f"ingest {folder.name}" in ran and "evaluate merged step 1" in ran
    assert not any(label.startswith(("update", "merge", "initialise")) for label in ran)
    assert sum(label.startswith("ingest") for label in ran) == 1


def test_a_changed_recipe_runs_alone(home):
    raw = raw_experiment()
    raw["recipes"]["plain"]["update"] = {"lr": 2e-5}
    ran = executed(lived(raw)[1])
    assert ran == {f"{stage} plain step {step}" for stage in ("update", "evaluate") for step in (0, 1)}


def test_a_recipe_may_weigh_experts_by_their_data(home):
    merge = {
        "init": "ema",
        "deploy": "ema",
        "include_zs": False,
        "technique": {"kind": "fisher"},
        "statistics_samples": 16,
    }
    ran = executed(lived(raw_experiment(recipes={**raw_experiment()["recipes"], "weighed": {"merge": merge}}))[1])
    assert {f"fisher statistics of weighed step {step}" for step in (0, 1)} | {"merge weighed step 1"} <= ran
    assert "merge weighed step 0" not in ran and "merge statistics of weighed step 1" in ran


def test_lineage_answers_from_checkpoint_to_samples_and_back(first_life, home):
    step = load_record(first_life[1].digest).recipes[1].steps[1]
    pools = lineage.about(step.expert)["pools"]
    assert {row["pool"] for row in pools} == {"update", "buffer", "pretraining"}
    assert sum(row["draws"] for row in pools) == 2 * 16
    sample = read_table(step.step_plan)["id"][0].as_py()
    assert step.expert in {row["checkpoint"] for row in lineage.about(sample)["steps"]}


def test_report_and_tracking_are_there(first_life, home):
    import mlflow

    page = (places.home() / "reports" / "tiny-seed0.html").read_text()
    assert "merged" in page and "plain" in page
    runs = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("tiny").experiment_id])
    assert {"plain", "merged"} <= {run.info.run_name for run in runs}


def test_data_that_moved_is_found_again_and_nothing_runs(first_life, home):
    places.home().joinpath("sources.json").unlink()  # as if the home had never seen these folders
    _, stages = lived(raw_experiment())
    assert executed(stages) == set()
    store.locate(load_record(first_life[1].digest).recipes[0].steps[1].expert).unlink()
    assert executed(lived(raw_experiment())[1]) == {"update plain step 1"}


def test_ingest_alone_leaves_unchanged_data_alone(home):
    before = places.catalog_path().read_bytes()
    assert ingest(parse(raw_experiment(), "test")).is_news is False
    assert places.catalog_path().read_bytes() == before


def test_the_ledger_says_what_each_phase_of_a_step_took(first_life, home):
    plain, merged = load_record(first_life[1].digest).recipes
    assert [row.phase for row in plain.steps[0].ledger] == ["training"]
    rows = {row.phase: row for row in merged.steps[1].ledger}
    assert rows["training"].used_mafs == rows["training"].planned_mafs == merged.steps[1].mafs_used > 0
    assert rows["merging"].gflops > 0 == rows["merging"].used_mafs


@pytest.mark.parametrize("change, message", [
    ({"evaluation": {"retention": ["NOWHERE"]}}, "NOWHERE, which no source holds"),
    ({"stream": {"ordering": {"kind": "random"}, "steps": 5000}}, "cannot be spread over 5000 steps"),
])  # fmt: skip
def test_an_experiment_that_does_not_fit_its_data_says_why(home, change, message):
    with pytest.raises(ValueError, match=message):
        lived(raw_experiment(**change))
