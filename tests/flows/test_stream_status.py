"""What `evergreen status` says of a living stream, in the terminal and on the page of a run."""

import json
from datetime import UTC, datetime

import pytest

from data_catalog import alerts, promotions
from data_catalog.alerts import of_failure
from data_catalog.promotions import Promotion
from flows import stream_status as module
from flows.handing_over import ServerRefused
from flows.status import known_streams
from flows.status_page import headlines, lines, markdown
from flows.stream_status import SeenStep, stream_status

SHA = "sha256:" + "0" * 64


@pytest.fixture
def begun():
    entry = Promotion(number=0, deed="start", checkpoint=SHA, backbone="b", by="stream", reason="the first", time="")
    return promotions.enter("colours", lambda history: entry)


def seen(step: int, verdict: str = "hold", decided: str = "held") -> SeenStep:
    return SeenStep(step=step, arrived={"SHOES": 3}, finished="2026-11-21T10:00:00+00:00", verdict=verdict,
                    reasons=("new: 0.1 | too low",), decided=decided,
                    commands=(f"evergreen promote colours --step {step} --reason '...'",))  # fmt: skip


def test_a_stream_that_has_begun_and_made_no_step(begun):
    status = stream_status("colours", scan=False)
    assert (status.steps, status.live.step, status.live.scores, status.at_work) == (0, None, None, False)
    assert "live: the weights the stream began with (entry 0, start by stream)" in headlines(status)[0]


def test_what_cannot_be_found_out_is_said_and_nothing_fails(begun, monkeypatch):
    def refuse(*_):
        raise ServerRefused("nobody answers")

    monkeypatch.setattr(module, "server", lambda: "http://127.0.0.1:9/api")
    monkeypatch.setattr(module, "post", refuse)
    status = stream_status("colours")
    assert status.unknown[0].startswith("what waits: ") and status.unknown[1] == "what is scheduled: nobody answers"
    assert any(line.startswith("  not known, what is scheduled") for line in lines(status))


def test_a_held_step_comes_with_the_commands_that_settle_it(begun):
    status = stream_status("colours", scan=False).model_copy(
        update={"steps": 8, "held": (seen(7),), "newest": (seen(7),)}
    )
    command = "evergreen promote colours --step 7 --reason '...'"
    assert command in "\n".join(lines(status)) and f"```\n{command}\n```" in markdown(status)
    assert "| 7 | hold | held | 2026-11-21 10:00:00 UTC | 3 of SHOES |" in markdown(
        status
    ) and "last arrival: 3 of SHOES" in markdown(status)


@pytest.mark.parametrize(
    ("at_work", "said"),
    [(True, "a run is at work on step 3"), (False, "step 3 was begun and no run is at work: the next run finishes it")],
)
def test_a_step_whose_run_was_killed_is_told_from_one_at_work(begun, at_work, said):
    status = stream_status("colours", scan=False).model_copy(update={"open_step": 3, "at_work": at_work})
    assert headlines(status)[1].endswith(said)


def test_the_newest_alert_comes_first_and_good_news_does_not(begun):
    alerts.enter([of_failure("colours", "a", "first"), of_failure("colours", "b", "second"), of_failure("x", "c", "z")])
    status = stream_status("colours", scan=False)
    assert [alert.message for alert in status.alerts] == ["second", "first"]


def test_the_next_run_is_that_of_the_deployment_of_this_stream(begun, monkeypatch):
    mine = {"id": "1", "name": "nightly", "flow_id": "f", "parameters": {"config": {"name": "colours"}},
            "paused": False, "schedules": [{"active": False}]}  # fmt: skip
    other = mine | {"id": "2", "parameters": {"config": "nowhere.yaml"}}
    at = datetime(2026, 11, 22, tzinfo=UTC).isoformat()
    answers = {"deployments/filter": [mine, other], "flows/filter": [{"id": "f", "name": "living-stream"}],
               "flow_runs/filter": [{"expected_start_time": at}]}  # fmt: skip
    monkeypatch.setattr(module, "server", lambda: "http://x/api")
    monkeypatch.setattr(module, "post", lambda url, path, body: answers[path])
    (scheduled,) = stream_status("colours", scan=False).scheduled
    assert (scheduled.deployment, scheduled.next, scheduled.paused) == ("living-stream/nightly", at, True)


def test_status_is_json_and_an_unknown_stream_is_refused(begun):
    assert json.loads(stream_status("colours", scan=False).model_dump_json())["stream"] == "colours"
    with pytest.raises(ValueError, match="no living stream 'shoes' has run in this store, there are: colours"):
        known_streams("shoes")
