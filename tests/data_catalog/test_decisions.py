"""Decisions about samples: kept in order, taken back by another entry, handed to the plan as exclusions."""

import pytest

from data_catalog import decisions, store


def test_a_release_is_in_force_until_it_is_withdrawn():
    decisions.release(["A/train/1", "A/train/2"], "looked at them")
    assert decisions.released() == {"A/train/1": "looked at them", "A/train/2": "looked at them"}
    decisions.withdraw("release", ["A/train/1"], "looked again")
    assert decisions.released() == {"A/train/2": "looked at them"}
    assert decisions.removals() is None


def test_decisions_are_numbered_and_keep_rule_and_reason():
    decisions.forget(["B/train/2", "B/train/1", "B/train/1"], "licence", rule="--dataset B")
    decisions.release(["A/train/1"], "fine")
    first, second = decisions.decisions()
    assert (first.number, first.kind, first.samples) == (1, "forget", ("B/train/1", "B/train/2"))
    assert (first.rule, first.reason, second.number) == ("--dataset B", "licence", 2)
    assert first.time.endswith("+00:00")


def test_removals_are_dropped_by_later_plans():
    decisions.forget(["B/train/2"], "licence")
    decisions.forget(["B/train/1"], "a person asked")
    removals = decisions.removals()
    assert (removals.effect, removals.samples) == ("drop", 2)
    assert store.read_table(removals.digest).to_pylist() == [
        {"sample": "B/train/1", "reason": "a person asked"},
        {"sample": "B/train/2", "reason": "licence"},
    ]


def test_a_removal_asked_for_twice_changes_no_plan():
    decisions.forget(["B/train/2"], "licence")
    before = decisions.removals()
    decisions.forget(["B/train/2"], "asked again")
    assert decisions.removals() == before
    assert len(decisions.decisions()) == 2


def test_a_removal_can_be_taken_back_and_asked_for_again():
    decisions.forget(["B/train/2"], "licence")
    decisions.withdraw("forget", ["B/train/2"], "licence found")
    assert decisions.removals() is None
    decisions.forget(["B/train/2"], "licence lost")
    assert decisions.in_force("forget") == {"B/train/2": "licence lost"}


def test_what_is_not_in_force_cannot_be_taken_back():
    with pytest.raises(ValueError, match="1 of 1 samples are not forgotten, first 'B/train/2'"):
        decisions.withdraw("forget", ["B/train/2"], "oops")


@pytest.mark.parametrize("ids, reason", [([], "why"), (["A/train/1"], " ")])
def test_a_decision_needs_samples_and_a_reason(ids, reason):
    with pytest.raises(ValueError, match="needs samples and a reason"):
        decisions.forget(ids, reason)
