"""Streams and steps: which samples, in which order, with which text."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data_catalog import store
from data_catalog.mixture import Mixture
from data_catalog.orderings import FromFile, Random
from data_catalog.stream import PLAN, chunks, compose_step, compose_stream, draw, outline

PUBLISHED = Path(__file__).parents[3] / "shared/fomo_in_flux/streams"


@pytest.fixture
def plan(datasets, captions):
    return compose_stream(list(datasets.values()), captions, Random(), 3, 0, ["BROAD"])


def rows(reference):
    return store.read_table(reference.digest).to_pylist()


def ordered(tmp_path, *entries):
    (tmp_path / "order.json").write_text(json.dumps(entries))
    return FromFile(path=str(tmp_path / "order.json"))


def test_the_first_steps_get_what_does_not_divide():
    assert chunks(18381, 20) == [920] + 19 * [919]
    assert Counter(chunks(18381, 200)) == {92: 181, 91: 19}


def test_more_steps_than_concepts_is_an_error():
    with pytest.raises(ValueError, match="3 concepts cannot be spread over 4 steps"):
        chunks(3, 4)


def test_every_training_sample_arrives_once(plan, datasets):
    arrived = [row["id"] for row in rows(plan)]
    assert len(set(arrived)) == len(arrived) == sum(dataset.samples["train"] for dataset in datasets.values())
    assert store.read_table(plan.digest).schema.equals(PLAN)
    assert plan.pretraining_samples == 6 and [step.concepts for step in plan.steps] == [2, 2, 1]


def test_a_step_has_all_samples_of_its_concepts(datasets, captions, tmp_path):
    ordering = ordered(tmp_path, "SHAPES+++star", "SCENES+++hill")
    plan = compose_stream(list(datasets.values()), captions, ordering, 2, 0, [])
    assert [{row["concept"] for row in rows(plan) if row["step"] == step} for step in (0, 1)] == [{"star"}, {"hill"}]
    assert [step.samples for step in plan.steps] == [3, 2]


def test_the_plan_does_not_depend_on_the_order_of_the_datasets(plan, datasets, captions):
    assert compose_stream(list(datasets.values())[::-1], captions[::-1], Random(), 3, 0, ["BROAD"]) == plan


def test_a_concept_without_training_samples_is_named(datasets, captions, tmp_path):
    with pytest.raises(ValueError, match=r"without a training sample, first 'stars' of SHAPES; close.*star"):
        compose_stream(list(datasets.values()), captions, ordered(tmp_path, "SHAPES+++stars"), 1, 0, [])


def test_missing_captions_and_misspelt_pretraining_are_errors(datasets, captions):
    with pytest.raises(ValueError, match=r"SHAPES .* has no captions"):
        compose_stream(list(datasets.values()), captions[:2], Random(), 2, 0, [])
    with pytest.raises(ValueError, match=r"'BRODA' was not given; close matches: .*BROAD"):
        compose_stream(list(datasets.values()), captions, Random(), 2, 0, ["BRODA"])


@pytest.mark.parametrize("pool_size", [1, 7, 100])
def test_a_full_pass_shows_every_sample_equally_often(pool_size):
    counts = np.bincount(draw(pool_size, 60, 60, 0, 1, "update"), minlength=pool_size)
    assert counts.max() - counts.min() <= 1 and counts.sum() == 60


def test_draws_differ_by_step_and_pool_and_repeat_exactly():
    one = draw(50, 20, 50, 0, 1, "update")
    assert (one == draw(50, 20, 50, 0, 1, "update")).all()
    assert (one != draw(50, 20, 50, 0, 2, "update")).any() and (one != draw(50, 20, 50, 0, 1, "buffer")).any()


def test_batches_hold_the_pools_in_order_and_share(plan):
    drawn = rows(compose_step(plan, 2, Mixture(), 8, 3, 0))
    batch = ["update"] * 3 + ["buffer"] * 2 + ["pretraining"] * 3
    assert [row["pool"] for row in drawn] == batch * 3
    assert [row["iteration"] for row in drawn] == [0] * 8 + [1] * 8 + [2] * 8


def test_each_pool_holds_what_it_should(plan):
    step_of = {row["id"]: row["step"] for row in rows(plan)}
    for row in rows(compose_step(plan, 1, Mixture(), 8, 10, 0)):
        assert step_of[row["id"]] == {"update": 1, "buffer": 0, "pretraining": -1}[row["pool"]]


def test_a_longer_list_of_texts_yields_each_of_them(plan):
    step = next(i for i in range(3) if any(row["step"] == i and row["concept"] == "star" for row in rows(plan)))
    drawn = rows(compose_step(plan, step, Mixture(pretraining=0, update=1, buffer=0), 8, 20, 0))
    assert {row["text"] for row in drawn if row["id"].endswith("star/1.png")} == {"one", "two"}
    assert {row["text"] for row in drawn if row["id"].endswith("star/0.png")} == {"A photo of a star."}


def test_later_arrivals_leave_earlier_steps_alone(datasets, captions, tmp_path):
    early = ordered(tmp_path, "SHAPES+++star", "SCENES+++hill")
    short = compose_stream(list(datasets.values()), captions, early, 2, 0, ["BROAD"])
    late = ordered(tmp_path, "SHAPES+++star", "SCENES+++hill", "SHAPES+++circle")
    longer = compose_stream(list(datasets.values()), captions, late, 3, 0, ["BROAD"])
    for step in (0, 1):
        assert compose_step(short, step, Mixture(), 8, 2, 0) == compose_step(longer, step, Mixture(), 8, 2, 0)


def test_a_stream_of_pretraining_alone(datasets, captions):
    plan = compose_stream([datasets["BROAD"]], captions, Random(), 1, 0, ["BROAD"])
    step = compose_step(plan, 0, Mixture(pretraining=1, update=0, buffer=0), 4, 3, 0)
    assert step.samples == {"pretraining": 12}


def test_an_empty_pool_with_a_share_is_an_error(datasets, captions):
    plan = compose_stream(list(datasets.values()), captions, Random(), 3, 0, [])
    with pytest.raises(ValueError, match="pretraining pool is empty at step 1"):
        compose_step(plan, 1, Mixture(), 8, 3, 0)
    samples = compose_step(plan, 1, Mixture(pretraining=0, update=0.1, buffer=0.9), 8, 2, 0).samples
    assert sum(samples.values()) == 16 and "pretraining" not in samples


def test_names_are_stored_once(plan):
    table = store.read_table(compose_step(plan, 0, Mixture(), 8, 2, 0).digest)
    assert pa.types.is_dictionary(table["shard"].type) and pa.types.is_dictionary(table["pool"].type)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published streams are not here")
def test_the_outline_of_a_published_stream():
    steps = outline(PUBLISHED / "time_incremental_dschunked_1.json.gz", 200, 512, Mixture())
    assert [step["concepts"] for step in steps] == chunks(18381, 200)
    assert steps[0]["datasets"] == ["FLOWERS102"] and steps[0]["batch"]["update"] == 259
    assert steps[1]["batch"] == {"pretraining": 169, "update": 175, "buffer": 168}
