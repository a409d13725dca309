"""What the ledgers call for: each thing once, and drifting when retention crosses the line."""

from types import SimpleNamespace

import pytest

from data_catalog import alerts, promotions
from data_catalog.alerts import DRIFTING, HELD, PROMOTED, REJECTED, ROLLED_BACK
from data_catalog.promotions import Promotion
from models import alerting, living
from models.alerting import AlertSpec, due
from models.evaluation.scores import StepScores

SHA = "sha256:" + "0" * 64


def scores(retention: float) -> StepScores:
    return StepScores(step=0, knowledge_accumulation=0.5, zero_shot_retention=retention, geometric_mean=0.5)


@pytest.fixture
def stream(monkeypatch):
    """A stream whose steps have these retentions, each made from the one before; the weights it began with: 0.60."""

    def with_steps(*retentions: float, held: tuple[int, ...] = ()):
        before = (0.60, *retentions)
        steps = [
            SimpleNamespace(first_summary=scores(0.60), live_summary=scores(before[t]),
                            record=SimpleNamespace(summary=scores(now)), verdict=SimpleNamespace(reasons=("too few",)))
            for t, now in enumerate(retentions)
        ]  # fmt: skip
        monkeypatch.setattr(living, "step_at", lambda stream, step: steps[step])
        monkeypatch.setattr(living, "undecided", lambda stream: list(held))
        return steps

    return with_steps


def enter(deed: str, step: int | None = None) -> None:
    entry = Promotion(number=0, deed=deed, checkpoint=SHA, backbone="b", step=step, by="gate", reason="r", time="")
    promotions.enter("s", lambda history: entry)


def events() -> list[tuple]:
    return [(alert.event, alert.step) for alert in due("s", AlertSpec())]


def test_each_deed_calls_for_one_alert(stream):
    stream(0.60, 0.60, held=(2,))
    enter("start")
    enter("promote", 0)
    enter("reject", 1)
    enter("rollback")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(living, "step_at", lambda s, t: SimpleNamespace(
            first_summary=scores(0.6), live_summary=scores(0.6), record=SimpleNamespace(summary=scores(0.6)),
            verdict=SimpleNamespace(reasons=("too few",))))  # fmt: skip
        assert events() == [(PROMOTED, 0), (REJECTED, 1), (ROLLED_BACK, None), (HELD, 2)]


def test_what_was_raised_is_not_due_again(stream):
    stream(0.60)
    enter("promote", 0)
    assert len(alerts.enter(due("s", AlertSpec()))) == 1
    assert due("s", AlertSpec()) == []


def test_drifting_is_raised_with_the_step_that_crosses_the_line_and_not_with_the_next(stream):
    stream(0.58, 0.565, 0.55)
    for step in range(3):
        enter("promote", step)
    drifting = [alert for alert in due("s", AlertSpec()) if alert.event == DRIFTING]
    assert [alert.step for alert in drifting] == [1]
    assert "0.035 below" in drifting[0].message


def test_nothing_drifts_where_no_drop_is_named(stream):
    stream(0.10)
    enter("promote", 0)
    assert [alert.event for alert in due("s", AlertSpec(retention_drop=None))] == [PROMOTED]


def test_an_old_stream_raises_no_flood(stream):
    stream(*[0.6] * 50)
    for step in range(50):
        enter("promote", step)
    assert [step for _, step in events()] == list(range(50 - alerting.RECENT, 50))


def test_alerts_are_kept_once_and_news_is_no_alert():
    failed = alerts.of_failure("s", "run-1", "disk full")
    good = alerts.Alert(id=alerts.named(PROMOTED, "s", 1), event=PROMOTED, stream="s", message="is live")
    assert [alert.event for alert in alerts.enter([failed, good])] == [failed.event, good.event]
    assert alerts.enter([failed]) == []
    assert [alert.message for alert in alerts.last(5)] == ["disk full"] and alerts.last(5, "t") == []
    alerts.mark(failed, "sent")
    assert [alert.id for alert in alerts.unmarked("sent", "s")] == [good.id]
