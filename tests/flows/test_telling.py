"""What happened reaches people: once, as an event that automations hear, and through a block where one is named."""

import pytest
from prefect import flow
from prefect.blocks.abstract import NotificationBlock

from data_catalog import alerts
from data_catalog.alerts import FAILED, HELD, PROMOTED, Alert, named
from flows import telling
from flows.alert import alert, page
from flows.handing_over import ServerRefused
from flows.telling import announce, tell_of_failure
from models.alerting import AlertSpec

SENT: list[str] = []


class Kept(NotificationBlock):
    """A block that sends into a list."""

    _block_type_name = "Kept For Tests"

    def notify(self, body: str, subject: str | None = None) -> None:
        SENT.append(subject)


@pytest.fixture
def posted(monkeypatch):
    events = []
    monkeypatch.setattr(telling, "post", lambda url, path, body: events.extend(body))
    monkeypatch.setattr(telling, "server", lambda: "http://x/api")
    return events


def raised(event=HELD, step=7) -> Alert:
    said = Alert(id=named(event, "colours", step), event=event, stream="colours", message="step 7 is held", step=step)
    return alerts.enter([said])[0]


def test_an_alert_is_posted_once_under_its_id(posted):
    told = raised()
    for _ in range(2):
        announce(alerts.unmarked("announced", "colours"))
    assert [event["id"] for event in posted] == [str(told.id)]
    assert posted[0]["event"] == HELD and posted[0]["payload"]["step"] == 7
    assert posted[0]["resource"] == {"prefect.resource.id": "evergreen.stream.colours"}


def test_a_server_that_was_away_is_told_later(posted, monkeypatch):
    def refuse(*_):
        raise ServerRefused("nobody answers")

    raised()
    with monkeypatch.context() as away:
        away.setattr(telling, "post", refuse)
        announce(alerts.unmarked("announced", "colours"))
    assert posted == []
    announce(alerts.unmarked("announced", "colours"))
    assert len(posted) == 1


def test_what_a_killed_run_owed_is_told_by_the_next(posted, monkeypatch):
    owed = Alert(id=named(PROMOTED, "colours", 3), event=PROMOTED, stream="colours", message="step 3 is live")
    monkeypatch.setattr(telling, "due", lambda stream, spec: [owed])
    assert [each.id for each in telling.tell("colours", AlertSpec())] == [owed.id]
    assert telling.tell("colours", AlertSpec()) == [] and len(posted) == 1


def test_a_held_step_is_shown_with_the_commands_that_settle_it():
    assert "evergreen promote colours --step 7 --reason" in page(raised())


@pytest.mark.usefixtures("prefect_backend")
def test_an_alert_is_kept_and_sent_once_through_the_block_that_is_named(monkeypatch):
    Kept().save("ops", overwrite=True)
    SENT.clear()
    said = dict(event=HELD, stream="colours", message="step 7 is held", id=str(named(HELD, "colours", 7)))
    assert not alert(**said).sent  # nowhere is named
    monkeypatch.setenv("EVERGREEN_ALERT_BLOCK", "kept-for-tests/ops")
    assert alert(**said).sent and not alert(**said).sent
    assert SENT == ["step 7 is held"] and len(alerts.last(5)) == 1


@pytest.mark.usefixtures("prefect_backend")
def test_a_run_that_fails_says_so_under_the_name_of_its_stream():
    @flow(name="failing", on_failure=[tell_of_failure])
    def failing(config: dict) -> None:
        raise ValueError("the disk is full")

    with pytest.raises(ValueError, match="the disk is full"):
        failing({"name": "colours"})
    (told,) = alerts.last(5)
    assert (told.event, told.stream) == (FAILED, "colours") and "failing failed: " in told.message
    assert "the disk is full" in told.message and alerts.of_failure("x", told.run, "again").id == told.id
