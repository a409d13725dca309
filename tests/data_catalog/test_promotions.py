"""The ledger of what is live: in order, one last word, no clock."""

import multiprocessing

import pytest

from data_catalog import ledger, promotions
from data_catalog.promotions import LiveChanged, Promotion


def entry(deed, step=None, checkpoint="sha256:" + "0" * 64):
    return Promotion(number=0, deed=deed, checkpoint=checkpoint, backbone="sha256:" + "b" * 64, step=step,
                     by="gate", reason=f"{deed} {step}", time="")  # fmt: skip


def test_a_stream_that_never_ran_has_nothing_live():
    assert promotions.live("pets") is None
    assert promotions.entries("pets") == [] == promotions.known_streams()


def test_the_last_entry_that_is_no_rejection_is_live():
    promotions.add("pets", entry("start"), follows=None)
    promotions.add("pets", entry("promote", 0), follows=0)
    promotions.add("pets", entry("reject", 1), follows=1)
    assert promotions.live("pets").step == 0
    promotions.add("pets", entry("rollback", None), follows=1)
    assert promotions.live("pets").number == 3
    assert [found.number for found in promotions.entries("pets")] == [0, 1, 2, 3]
    assert promotions.known_streams() == ["pets"]


def test_what_was_decided_about_a_step_is_the_last_decision():
    promotions.add("pets", entry("start"), follows=None)
    assert promotions.decided("pets", 0) is None
    promotions.add("pets", entry("reject", 0), follows=0)
    promotions.add("pets", entry("promote", 0), follows=0)
    assert promotions.decided("pets", 0).deed == "promote"


def test_an_entry_for_what_is_no_longer_live_is_refused_and_says_what_is():
    promotions.add("pets", entry("start"), follows=None)
    promotions.add("pets", entry("promote", 0), follows=0)
    with pytest.raises(LiveChanged, match=r"entry 1 became live \(promote 0\)"):
        promotions.add("pets", entry("promote", 1), follows=0)
    assert promotions.live("pets").step == 0


def test_a_clock_that_went_back_changes_nothing():
    promotions.add("pets", entry("start"), follows=None)
    ledger.extend("promotions-pets", lambda found: [found[0] | {"number": 1, "deed": "promote", "step": 0,
                                                               "time": "1999-01-01T00:00:00+00:00"}])  # fmt: skip
    assert promotions.live("pets").number == 1


def _promote(number):
    try:
        promotions.add("pets", entry("promote", number), follows=0)
    except LiveChanged:
        return 0
    return 1


def test_of_many_writers_who_saw_the_same_live_weights_one_wins():
    promotions.add("pets", entry("start"), follows=None)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        assert sum(pool.map(_promote, range(12))) == 1
    assert len(promotions.entries("pets")) == 2
