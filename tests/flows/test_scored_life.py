"""A life scored on subsets, at some steps and inside them: what its record holds, and what it shares with others."""

import contextlib
import json
import shutil

import pytest
import yaml

from data_catalog import catalog
from flows.continual import continual_pretrain
from flows.evaluate import evaluate
from flows.experiment import parse
from models.evaluation.record import load_record
from models.evaluation.scores import primary
from tasks.journal import ALWAYS, journal
from tests.flows.conftest import living_in, raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")
PROBE = "accuracy_linear_probe"
PLAIN = {"plain": {"mixture": {"update": 1, "buffer": 0, "pretraining": 0}}}
BASE = raw_experiment(recipes=PLAIN, past_weights=[])
BASE["stream"] = BASE["stream"] | {"steps": 4}
ASKED = {"every": 3, "inside": {"every_samples": 16}, "subset": 0.5, "groups": {"forms": ["SHAPES", "COUNTS"]},
         "weights": {"SHAPES": 3}, "probe": {"l2": [1e-3], "iterations": 5}}  # fmt: skip


def lived(evaluation):
    raw = BASE | {"evaluation": BASE["evaluation"] | evaluation}
    with journal() as stages:
        record = load_record(continual_pretrain(parse(raw, "test")).digest)
    return raw, record, {some.label for some in stages if not some.reused and some.reason != ALWAYS}


@pytest.fixture(scope="module")
def lives(prefect_backend, tmp_path_factory):
    """One experiment as others are scored, then scored as asked for; its home."""
    home = tmp_path_factory.mktemp("scored") / "home"
    with living_in(home) as patch:
        patch.setattr("data_catalog.subsets.AT_LEAST", 4)
        patch.setattr("data_catalog.subsets.PER_CLASS", 0)
        return home, lived({}), lived(ASKED)


def without_probes(report):
    return tuple(score for score in report.scores if score.metric != PROBE)


@pytest.fixture
def home(lives, tmp_path):
    shutil.copytree(lives[0], tmp_path / "home", symlinks=True)


def test_some_steps_are_scored_and_all_are_trained_alike(lives):
    _, (_, plain, _), (_, asked, _) = lives
    (before,), (recipe,) = plain.recipes, asked.recipes
    assert [step.step for step in recipe.steps] == [0, 2, 3] and [step.step for step in recipe.unscored] == [1]
    assert [step.expert for step in recipe.trained] == [step.expert for step in before.steps]  # looked into or not


def test_first_and_last_are_scored_on_whole_sets_too(lives):
    _, (_, plain, _), (_, asked, _) = lives
    last = asked.recipes[0].steps[-1]
    assert without_probes(last.full) == plain.recipes[0].steps[-1].scores.scores
    assert without_probes(asked.zero_shot_full) == plain.zero_shot.scores
    assert all(step.full is None for step in asked.recipes[0].steps[:-1]) and plain.zero_shot_full is None
    samples = [{score.dataset: score.samples for score in report.scores} for report in (last.scores, last.full)]
    assert samples[0]["SHAPES"] < samples[1]["SHAPES"]


def test_subsets_and_whole_sets_are_scored_in_one_pass(lives):
    executed = {label for label in lives[2][2] if label.startswith("evaluate") and "inside" not in label}
    ends = {f"evaluate {label}, on whole sets too" for label in ("pretrained", "plain step 3")}
    assert executed == ends | {"evaluate plain step 0", "evaluate plain step 2"}


def test_probes_are_scored_beside_the_prompts(lives):
    _, (_, plain, _), (_, asked, _) = lives
    probed = {score.dataset for score in asked.zero_shot.scores if score.metric == PROBE}
    assert "SHAPES" in probed and probed <= {*primary(asked.zero_shot)}
    assert not any(score.metric == PROBE for score in plain.zero_shot.scores)


def test_every_step_is_looked_into_and_that_enters_no_summary(lives):
    _, _, (_, asked, _) = lives
    looks = [[(point.iteration, point.samples) for point in step.inside] for step in asked.recipes[0].trained]
    assert looks == [[(1, 16)]] * 4  # 32 samples a step, 16 of them after the first of two iterations
    first = asked.recipes[0].steps[0]
    assert first.inside[0].scores.checkpoint not in (first.expert, first.scores.checkpoint)
    assert {*primary(first.inside[0].scores)} == {*primary(first.scores)}


def test_weights_enter_the_summaries(lives):
    _, _, (_, asked, _) = lives
    values = primary(asked.zero_shot)
    shares = {name: 3 if name == "SHAPES" else 1 for name in asked.retention}
    mean = sum(share * values[name] for name, share in shares.items()) / sum(shares.values())
    assert asked.zero_shot_summary.zero_shot_retention == pytest.approx(mean)
    assert (asked.groups, asked.weights) == ({"forms": ("SHAPES", "COUNTS")}, {"SHAPES": 3})


def test_nothing_before_the_updates_runs_again_for_other_scores(lives):
    executed = lives[2][2]
    assert not any(
        label.startswith(("ingest", "caption", "compose", "evaluation set", "initialise")) for label in executed
    )
    assert {label for label in executed if label.startswith("update")} == {f"update plain step {i}" for i in range(4)}


def test_the_catalog_knows_the_steps_that_were_not_scored(lives, home):
    rows = catalog.query("SELECT step FROM lineage_steps WHERE recipe = 'plain' ORDER BY step")
    assert {row["step"] for row in rows} == {0, 1, 2, 3}


def test_the_flow_scores_as_the_experiment_does_or_on_whole_sets(lives, home, monkeypatch):
    raw, asked, _ = lives[2]
    monkeypatch.setattr("data_catalog.subsets.AT_LEAST", 4)
    monkeypatch.setattr("data_catalog.subsets.PER_CLASS", 0)
    last = asked.recipes[0].steps[-1]
    subset, whole = (evaluate(parse(raw, "test"), "plain/3", whole=given) for given in (False, True))
    assert (subset.report, subset.summary.model_copy(update={"step": 3})) == (last.scores, last.summary)
    assert whole.report == last.full
    values = primary(subset.report)
    assert subset.groups == {"forms": pytest.approx((3 * values["SHAPES"] + values["COUNTS"]) / 4)}


def test_the_command_tells_the_means_of_groups(lives, home, evergreen, tmp_path, monkeypatch):
    monkeypatch.setattr("data_catalog.subsets.AT_LEAST", 4)
    monkeypatch.setattr("data_catalog.subsets.PER_CLASS", 0)
    monkeypatch.setattr("flows.server.api", contextlib.nullcontext)  # there is one already
    raw, asked, _ = lives[2]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    code, out, _ = evergreen("evaluate", tmp_path / "mine.yaml", "--whole", "--json")
    told = json.loads(out)
    assert code == 0 and told["checkpoint"] == asked.pretrained and set(told["groups"]) == {"forms"}
    found = {(score["dataset"], score["metric"]): score["value"] for score in told["scores"]}
    assert found == {(score.dataset, score.metric): score.value for score in asked.zero_shot_full.scores}
