"""Lineage: what made a checkpoint and what a sample helped to make, equal to a count over the step plans."""

from collections import Counter

import pyarrow as pa
import pytest

from data_catalog import catalog, decisions, lineage, store
from data_catalog.mixture import Mixture
from data_catalog.orderings import Random
from data_catalog.recorded import TrainedStep
from data_catalog.stream import compose_step, compose_stream, samples_of
from tests.data_catalog.fabricated import DRAWS, Life


@pytest.fixture
def life():
    lived = Life()
    lived.record()
    return lived


def carried(rows):
    return {(row["checkpoint"], row["how"]) for row in rows}


def test_a_sample_knows_its_steps_pools_and_draws(life):
    found = lineage.about("A/train/0")
    draws = [(row["recipe"], row["step"], row["pool"], row["draws"]) for row in found["steps"]]
    assert draws == [("alone", 1, "buffer", 2), ("merged", 0, "update", 2), ("merged", 1, "buffer", 2)]
    assert found["kind"] == "sample" and found["known"]["shard"] == "raw/A.tar"


def test_checkpoints_carry_a_sample_directly_or_by_inheritance(life):
    assert carried(lineage.about("A/train/1")["checkpoints"]) == {
        (life.expert0, "direct"), (life.merged0, "inherited"), (life.expert1, "inherited"),
    }  # fmt: skip
    assert carried(lineage.about("A/train/2")["checkpoints"]) == {(life.expert1, "direct"), (life.other, "direct")}


def test_the_captions_of_a_sample_are_told_with_their_draws(life):
    found = {row["text"]: row["draws"] for row in lineage.about("A/train/0")["captions"]}
    assert found == {"a zero": 3, "a nought": 1}  # two recipes trained on step 1, its plan counts once


def test_a_checkpoint_knows_its_own_step_and_what_it_inherits(life):
    found = lineage.about(life.expert1)
    assert [(row["stream"], row["recipe"], row["step"]) for row in found["inherited"]] == [("life", "merged", 0)]
    assert {row["pool"]: row["draws"] for row in found["pools"]} == {"update": 1, "buffer": 2, "pretraining": 2}
    assert found["origins"][0]["init"] == life.merged0
    assert sum(row["draws"] for row in found["total"]) == sum(times for *_, times in DRAWS)


def test_merged_weights_know_whom_they_descend_from(life):
    found = lineage.about(life.merged0)
    assert found["steps"] == [] and [row["checkpoint"] for row in found["inherited"]] == [life.expert0]
    assert found["descendants"] == [life.expert1]


def test_a_step_is_asked_for_by_its_path(life):
    found = lineage.about("life/merged/0")
    assert (found["kind"], found["checkpoint"], found["deployed"]) == ("step", life.expert0, life.merged0)
    assert {(row["dataset"], row["pool"]): row["samples"] for row in found["samples"]} == {
        ("A", "update"): 2, ("B", "pretraining"): 1,
    }  # fmt: skip
    assert carried(found["checkpoints"]) >= {(life.expert0, "direct"), (life.expert1, "inherited")}


def test_a_dataset_knows_the_steps_that_drew_from_it(life):
    found = lineage.about("B")
    assert {(row["recipe"], row["step"], row["samples"], row["draws"]) for row in found["steps"]} == {
        ("merged", 0, 1, 3), ("merged", 1, 1, 2), ("alone", 1, 1, 2),
    }  # fmt: skip


def test_a_digest_can_be_shortened_until_it_is_ambiguous(life):
    assert lineage.about(life.expert0[:19])["name"] == life.expert0
    with pytest.raises(ValueError, match="0 recorded checkpoints begin with"):
        lineage.about("sha256:0123456789")


def test_what_nobody_recorded_is_said(life):
    with pytest.raises(ValueError, match="nothing is recorded of 'A/train/99': give a digest"):
        lineage.about("A/train/99")


def test_views_count_what_a_count_over_the_step_plans_counts(life):
    rows = catalog.query("SELECT step, pool, draws, samples FROM lineage_steps WHERE recipe = 'merged'")
    expected = Counter()
    for step, pool, _, _, times in DRAWS:
        expected[step, pool] += times
    assert {(row["step"], row["pool"]): row["draws"] for row in rows} == expected
    texts = catalog.query(
        "SELECT text, sum(draws)::INT AS n FROM lineage_captions WHERE recipe = 'merged' GROUP BY text"
    )
    assert {row["text"]: row["n"] for row in texts} == Counter({
        text: sum(t for *_, other, t in DRAWS if other == text) for *_, text, _ in DRAWS
    })  # fmt: skip


def test_descent_follows_every_path_once(life):
    rows = catalog.query("SELECT checkpoint, ancestor, distance FROM checkpoint_ancestors")
    assert len(rows) == len({(row["checkpoint"], row["ancestor"]) for row in rows})
    nearest = {(row["checkpoint"], row["ancestor"]): row["distance"] for row in rows}
    assert nearest[life.expert1, life.pretrained] == 2  # by way of the merge, which the pretrained weights entered
    assert nearest[life.expert1, life.expert1] == 0


def test_marked_samples_and_decisions_show(life):
    decisions.forget(["A/train/1"], "a person asked")
    catalog.record_decisions()
    assert [made["reason"] for made in lineage.about("A/train/1")["decisions"]] == ["a person asked"]
    assert [row["sample"] for row in catalog.query("FROM forgotten")] == ["A/train/1"]
    assert [row["sample"] for row in catalog.query("SELECT DISTINCT sample FROM lineage_samples WHERE marked")] == [
        "A/train/1"
    ]


def test_lineage_equals_a_count_over_composed_steps(datasets, captions):
    catalog.record_ingest(list(datasets.values()), captions)
    plan = compose_stream(list(datasets.values()), captions, Random(), 2, 0, ["BROAD"])
    mixture = Mixture(pretraining=0.3, update=0.4, buffer=0.3)
    steps = [compose_step(plan, step, mixture, 8, 5, 0) for step in (0, 1)]
    weights = [f"sha256:{step}" + "a" * 63 for step in (0, 1)]
    catalog.record_stream("real", plan, [
        TrainedStep(recipe="plain", step=i, step_plan=steps[i].digest, checkpoint=weights[i]) for i in (0, 1)
    ])  # fmt: skip
    expected = Counter()
    for i in (0, 1):
        for row in store.read_table(steps[i].digest).to_pylist():
            expected[i, row["pool"], row["id"], row["text"], row["caption_kind"], row["captioner"]] += 1
    rows = catalog.query("SELECT step, pool, sample, text, caption_kind, captioner, draws FROM lineage_samples")
    assert {tuple(row.values())[:-1]: row["draws"] for row in rows} == expected
    arrivals = {(row["step"], row["sample"]) for row in catalog.query("SELECT step, sample FROM stream_members")}
    assert arrivals == {tuple(row.values()) for row in samples_of(plan).to_pylist()}


def test_what_the_first_weights_were_trained_on_is_carried_too():
    life = Life()
    table = pa.table({"pool": ["pretraining"] * 2, "id": ["B/train/2"] * 2, "concept": ["thing"] * 2})
    before = store.write_table(table)  # as older versions composed steps, without captions
    store.write_bytes(b"pretrained", made_by="update", init=f"sha256:{'0' * 64}", step_plan=before, step=0)
    life.record()
    (row,) = lineage.about("B/train/2")["steps"]
    assert (row["recipe"], row["step"], row["draws"], row["checkpoint"]) == ("start", -1, 2, life.pretrained)
    assert carried(lineage.about("B/train/2")["checkpoints"]) == {
        (life.pretrained, "direct"), (life.expert0, "inherited"), (life.merged0, "inherited"),
        (life.expert1, "inherited"), (life.other, "inherited"),
    }  # fmt: skip
    assert life.record() is False


def test_a_start_whose_step_plan_is_lost_is_told(caplog):
    life = Life()
    lost = f"sha256:{'1' * 64}"
    store.write_bytes(b"pretrained", made_by="update", init=f"sha256:{'0' * 64}", step_plan=lost, step=0)
    life.record()
    assert f"its step plan {lost} is lost" in caplog.text
