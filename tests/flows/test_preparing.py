"""Experiments that use what the data side offers beyond the benchmark's defaults, as flows."""

import re
from pathlib import Path

import pytest
import yaml

from data_catalog import decisions, store
from data_catalog.stream import samples_of
from flows.experiment import parse
from tests.flows.conftest import prepared_alone, raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()


@pytest.fixture
def prepared():
    """Prepares the tiny experiment with changes to its `stream`; returns what all recipes share."""

    def run(**stream):
        raw = raw_experiment()
        experiment = parse(raw_experiment(stream=raw["stream"] | stream), "test")
        return prepared_alone(experiment)

    return run


def columns(eval_set):
    return store.read_table(eval_set.digest).column_names


def test_the_query_of_the_document_orders_a_stream(prepared):
    block = next(
        text for text in re.findall(r"^```yaml\n(.*?)^```", DOCUMENT, flags=re.S | re.M) if "kind: sql" in text
    )
    plan = prepared(ordering=yaml.safe_load(block)["stream"]["ordering"]).plan
    assert len(plan.steps) == 2 and plan.steps[0].samples < plan.steps[1].samples  # rare concepts first


def test_each_dataset_is_a_step_without_counting_them(prepared):
    plan = prepared(ordering={"kind": "dataset_by_dataset"}, steps=None, cut="by_dataset").plan
    assert all(len(step.datasets) == 1 for step in plan.steps) and len(plan.steps) == 7


def test_twins_by_loose_embeddings_are_dropped_and_leaks_known(prepared):
    search = {"kinds": ["exact", "embedding"], "similarity": 0.995}
    loose = prepared(duplicates={"search": search, "policy": {"action": "drop", "scope": "both"}})
    dropped = store.read_table(loose.exclusions[0].digest)["sample"].to_pylist()
    assert dropped and not {*dropped} & {*samples_of(loose.plan)["sample"].to_pylist()}
    assert all("clean" in columns(eval_set) for eval_set in loose.eval_sets)


def test_what_was_compared_with_nothing_is_not_called_clean(prepared):
    kept = prepared(duplicates={"search": {"kinds": ["exact"], "datasets": ["DIGITS"]}})
    assert not any("clean" in columns(eval_set) for eval_set in kept.eval_sets)


def test_forgotten_samples_are_in_no_later_plan(prepared):
    before = prepared()
    gone = [name for name in samples_of(before.plan)["sample"].to_pylist() if name.startswith("DIGITS/")]
    decisions.forget(gone, "a test")
    after = {*samples_of(prepared().plan)["sample"].to_pylist()}
    assert gone and after == {*samples_of(before.plan)["sample"].to_pylist()} - {*gone}


def test_scored_captions_choose_the_texts_of_a_pretrained_stream(prepared):
    with pytest.raises(ValueError, match="before there are weights to score with"):
        prepared(captions={"choice": {"kind": "best"}})


@pytest.mark.parametrize("ordering", [{"kind": "similarity", "starts": 2}, {"kind": "difficulty", "pairs": 4}],
                         ids=lambda ordering: ordering["kind"])  # fmt: skip
def test_orderings_that_need_scores_know_nothing_of_what_was_forgotten(prepared, ordering):
    whole = prepared(ordering=ordering).plan
    seven = [name for name in samples_of(whole)["sample"].to_pylist() if name.startswith("DIGITS/train/train/7/")]
    decisions.forget(seven, "a test")
    left = prepared(ordering=ordering).plan
    concepts = [sum(step.concepts for step in plan.steps) for plan in (whole, left)]
    assert seven and concepts[0] == concepts[1] + 1
