"""What people decide about a living stream: once each, on what is live when it is written, back to the start."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from data_catalog import promotions, store
from data_catalog.promotions import LiveChanged
from data_catalog.store import MissingArtifact
from models.decisions import promote_step, reject_step, roll_back
from tests.models.held_steps import begin_pets


@pytest.fixture
def pets(monkeypatch):
    """A stream with three held steps, each started from the weights it began with."""
    return begin_pets(monkeypatch)


def told() -> list[tuple]:
    return [(entry.deed, entry.step) for entry in promotions.entries("pets")[1:]]


def test_a_held_step_goes_live_with_the_reason_and_the_verdict(pets):
    entry = promote_step("pets", 0, " shoes matter most ")
    assert promotions.live("pets") == entry
    assert (entry.deed, entry.by, entry.reason, entry.verdict) == (
        "promote", "person", "shoes matter most", pets[0].verdict_digest)  # fmt: skip


def test_deciding_twice_is_deciding_once(pets):
    assert promote_step("pets", 0, "good") == promote_step("pets", 0, "good")
    assert reject_step("pets", 1, "bad") == reject_step("pets", 1, "very bad")
    assert roll_back("pets", "bad", to=0) == roll_back("pets", "bad", to=0)
    assert told() == [("promote", 0), ("reject", 1), ("rollback", None)]


def test_a_step_judged_against_what_is_no_longer_live_needs_the_entry_it_replaces(pets):
    promote_step("pets", 0, "good")
    with pytest.raises(LiveChanged, match=r"step 1 was made from entry 0 .* add `--replaces 1`"):
        promote_step("pets", 1, "good too")
    assert promote_step("pets", 1, "better", replaces=1).number == 2


@pytest.mark.parametrize("deed", [
    lambda: promote_step("pets", 1, "good", replaces=0),
    lambda: reject_step("pets", 1, "bad", replaces=0),
    lambda: roll_back("pets", "bad", replaces=0),
])  # fmt: skip
def test_who_saw_another_entry_live_is_refused(pets, deed):
    promote_step("pets", 0, "good")
    with pytest.raises(LiveChanged, match=r"entry 0 is not live any more, entry 1 is \(promote, step 0\)"):
        deed()
    assert told() == [("promote", 0)]


def test_a_rejected_step_can_go_live_after_all(pets):
    reject_step("pets", 0, "bad")
    promote_step("pets", 0, "looked again")
    assert told() == [("reject", 0), ("promote", 0)]


def test_after_a_rollback_to_what_it_was_judged_against_an_old_step_goes_live(pets):
    promote_step("pets", 0, "good")
    roll_back("pets", "bad after all")
    assert promote_step("pets", 1, "better").number == 3


def test_each_rollback_goes_one_further_back_until_the_start(pets):
    promote_step("pets", 0, "a")
    promote_step("pets", 1, "b", replaces=1)
    reject_step("pets", 2, "c")
    assert [roll_back("pets", "worse").returns_to for _ in range(2)] == [1, 0]
    with pytest.raises(ValueError, match=r"the weights it began with \(entry 0\), and nothing was live before them"):
        roll_back("pets", "worse")


def test_a_rollback_after_a_rollback_and_a_promotion_returns_to_the_entry_that_put_it_live(pets):
    promote_step("pets", 0, "a")
    promote_step("pets", 1, "b", replaces=1)
    roll_back("pets", "worse")
    promote_step("pets", 2, "c", replaces=3)
    assert (roll_back("pets", "worse").returns_to, promotions.live("pets").step) == (1, 0)
    assert roll_back("pets", "b was good", to=2).step == 1
    assert roll_back("pets", "no, a", to=3).returns_to == 1  # itself a rollback to 1


@pytest.mark.parametrize("to", [2, 7])
def test_a_rollback_to_what_was_never_live_is_refused_with_what_was(pets, to):
    promote_step("pets", 0, "a")
    reject_step("pets", 1, "b")
    with pytest.raises(ValueError, match=f"entry {to} put nothing live; those that did: 0, 1"):
        roll_back("pets", "worse", to=to)


def test_what_is_or_was_live_is_not_rejected(pets):
    promote_step("pets", 0, "a")
    with pytest.raises(ValueError, match="step 0 is live; take it back with `evergreen rollback pets"):
        reject_step("pets", 0, "bad")
    roll_back("pets", "bad")
    with pytest.raises(ValueError, match="nothing left to reject"):
        reject_step("pets", 0, "bad")


def test_a_retried_deed_is_not_done_again_whatever_was_decided_since(pets):
    first = promote_step("pets", 0, "a", request="run-1")
    promote_step("pets", 1, "b", replaces=1)
    back = roll_back("pets", "worse", request="run-2")
    assert promote_step("pets", 0, "a", request="run-1") == first
    assert roll_back("pets", "worse", request="run-2") == back
    assert told() == [("promote", 0), ("promote", 1), ("rollback", 0)]


def test_damaged_weights_do_not_go_live(pets):
    store.locate(pets[0].candidate.digest).unlink()
    with pytest.raises(MissingArtifact):
        promote_step("pets", 0, "good")
    assert told() == []


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_decision_without_a_reason_is_refused(pets, reason):
    with pytest.raises(ValueError, match="needs its reason"):
        promote_step("pets", 0, reason)


def test_a_stream_that_never_ran_has_nothing_to_go_back_to():
    with pytest.raises(ValueError, match="no living stream 'pets' has run"):
        roll_back("pets", "worse")


def test_of_many_who_reject_at_once_one_is_entered(pets):
    with ThreadPoolExecutor(4) as people:
        entered = list(people.map(lambda who: reject_step("pets", 0, str(who)), range(4)))
    assert told() == [("reject", 0)] and all(each == entered[0] for each in entered)
