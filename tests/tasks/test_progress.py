"""What is told of a long stage while it works."""

import logging

import pytest
from prefect import flow

from data_catalog.durations import ago, spoken
from tasks import progress
from tasks.caching import cached
from tasks.progress import Pace, in_words, listening, progress_of


def test_speed_counts_from_the_first_report_so_a_resumed_stage_is_not_called_fast():
    pace = Pace()
    assert pace.rate(1000, now=50.0) is None
    assert pace.rate(1030, now=60.0) == 3.0


def test_speed_is_said_in_samples_where_one_unit_holds_many():
    assert in_words(2.0, samples=64, loss=0.25) == "128 samples/s, loss 0.250"
    assert in_words(2.0, samples=None, loss=None) == "2/s"
    assert in_words(None, samples=64, loss=None) == ""


def test_who_listens_is_told_outside_prefect_too():
    heard = []
    with listening(lambda *said: heard.append(said)), progress_of("update", samples=8) as report:
        report(1, 4, 0.5)
    assert heard == [("update", 1, 4, "loss 0.500")]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (12_000, "3 h 20 min"), (190_800, "2 days 5 h")]
)
def test_spans_are_said_in_their_two_largest_units(seconds, said):
    assert spoken(seconds) == said


def test_a_moment_ahead_of_the_clock_is_called_that():
    assert "ahead of the clock" in ago("2999-01-01T00:00:00+00:00")


@pytest.mark.usefixtures("prefect_backend")
def test_the_log_says_why_a_stage_runs_when_it_begins_and_how_far_it_is(monkeypatch, caplog):
    def train(step: int) -> int:
        with progress_of(f"update step {step}", samples=10) as report:
            for done in (2, 4):
                report(done, 4, 1.5)
        return step

    monkeypatch.setattr(progress, "LOG_SECONDS", 0)
    stage = cached(revision=1, label="update step {step}")(train)
    with caplog.at_level(logging.INFO, logger="prefect.task_runs"):
        flow(lambda: stage(3), name="tells")()
    said = [line for record in caplog.records if (line := record.getMessage()).startswith("update step 3: ")]
    assert said[0] == "update step 3: runs now (first run)"
    assert said[1] == "update step 3: 2 of 4, loss 1.500"
    assert "samples/s" in said[2] and said[3].startswith("update step 3: ran (first run)")
