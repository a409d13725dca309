"""Requests for removal: whom they mean, what those helped to make, and plans without them."""

import pytest

from data_catalog import catalog, decisions, removal, store
from data_catalog.orderings import Random
from data_catalog.places import catalog_path
from data_catalog.removal import Request
from data_catalog.stream import compose_stream, samples_of
from tests.data_catalog.fabricated import Life, dataset


@pytest.fixture
def life():
    lived = Life()
    lived.record()
    return lived


@pytest.mark.parametrize("request_, expected", [
    (Request(samples=("A/train/2", "A/train/0")), ["A/train/0", "A/train/2"]),
    (Request(dataset="B"), ["B/train/0", "B/train/1", "B/train/2"]),
    (Request(where="dataset = 'A' AND \"offset\" >= 1024"), ["A/train/2", "A/train/3"]),
    (Request(where="id LIKE '%/2' -- the second ones"), ["A/train/2", "B/train/2"]),
])  # fmt: skip
def test_a_request_means_samples(life, request_, expected):
    assert removal.matching(request_) == expected


@pytest.mark.parametrize("request_, message", [
    (Request(), "0 of --sample, --dataset and --where are given"),
    (Request(samples=("A/train/0",), dataset="A"), "2 of --sample, --dataset and --where are given"),
    (Request(samples=("A/train/0", "A/train/77")), "1 of 2 samples were never recorded, first 'A/train/77'"),
    (Request(dataset="C"), "`--dataset C` matches no sample"),
    (Request(where="width > 1000"), "`--where width > 1000` matches no sample"),
    (Request(where="widht > 1000"), "the catalog cannot answer"),
    (Request(where="true); DELETE FROM samples; SELECT (1"), "the catalog answers one SELECT at a time"),
])  # fmt: skip
def test_a_request_that_means_nothing_is_refused(life, request_, message):
    with pytest.raises(ValueError, match=message):
        removal.matching(request_)


def test_a_request_needs_a_catalog_that_knows_the_samples():
    with pytest.raises(ValueError, match="1 of 1 samples were never recorded"):
        removal.matching(Request(samples=("A/train/0",)))


def test_steps_and_checkpoints_that_saw_the_samples_are_listed(life):
    found = removal.affected(["A/train/0", "A/train/1"])
    steps = {(row["recipe"], row["step"]): (row["samples"], row["draws"]) for row in found["steps"]}
    assert steps == {("merged", 0): (2, 3), ("merged", 1): (1, 2), ("alone", 1): (1, 2)}
    assert found["checkpoints"] == {
        "direct": sorted([life.expert0, life.expert1, life.other]), "inherited": [life.merged0],
    }  # fmt: skip


def test_samples_that_were_never_drawn_touch_no_checkpoint(life):
    assert removal.affected(["B/train/2"]) == {
        "steps": [], "checkpoints": {"direct": [], "inherited": []}, "copies": [],
    }  # fmt: skip


def test_other_samples_with_the_same_bytes_are_named(life):
    assert removal.copies(["A/train/0"]) == ["A/train/3"]


def test_a_sample_that_left_the_catalog_but_was_trained_on_is_still_found(life):
    catalog.record_ingest([dataset("A", 1)], [])
    assert removal.matching(Request(samples=("A/train/2",))) == ["A/train/2"]
    assert removal.matching(Request(dataset="A")) == ["A/train/0", "A/train/1", "A/train/2"]
    assert [row["step"] for row in removal.affected(["A/train/2"])["steps"]] == [1, 1]


def test_a_removal_is_in_the_ledger_in_the_catalog_and_in_later_plans(life):
    removal.forget(["A/train/0"], "a person asked", "")
    assert catalog.query("SELECT sample, reason FROM forgotten") == [
        {"sample": "A/train/0", "reason": "a person asked"}
    ]
    removed = decisions.removals()
    assert store.read_table(removed.digest)["sample"].to_pylist() == ["A/train/0"]


def test_a_removal_can_be_taken_back_by_its_rule(life):
    removal.forget(removal.matching(Request(dataset="B")), "licence", "--dataset B")
    removal.forget(["A/train/0"], "a person asked")
    back = removal.forgotten(Request(dataset="B"))
    removal.restore(back, "licence found", "--dataset B")
    assert list(decisions.in_force("forget")) == ["A/train/0"]
    assert [row["sample"] for row in catalog.query("FROM forgotten")] == ["A/train/0"]
    with pytest.raises(ValueError, match="`--dataset B` matches no forgotten sample"):
        removal.forgotten(Request(dataset="B"))


def test_a_decision_stands_without_a_catalog(life):
    catalog_path().unlink()
    removal.forget(["A/train/0"], "a person asked")
    assert decisions.in_force("forget") == {"A/train/0": "a person asked"}


def test_later_plans_leave_forgotten_samples_out(life):
    removal.forget(["A/train/0", "B/train/1"], "a person asked")
    plan = compose_stream(life.datasets, life.captions, Random(), 2, 0, ["B"], exclusions=[decisions.removals()])
    left = set(samples_of(plan)["sample"].to_pylist())
    assert left == set(samples_of(life.plan)["sample"].to_pylist()) - {"A/train/0", "B/train/1"}
