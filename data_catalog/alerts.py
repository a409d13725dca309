"""What people should hear of living streams: a ledger of the store in which each thing stands once, by its id.

It also says what of it a Prefect server was told and which notifications were sent, so that a run that was killed in
between leaves nothing unsaid, and one that is repeated says nothing twice.
"""

import uuid
from datetime import UTC, datetime
from typing import Literal

from data_catalog import ledger
from data_catalog.refs import Spec

LEDGER = "alerts"
NAMESPACE = uuid.UUID("5b0f6a0e-0f0d-5c5e-8e57-0c4d9c1f7a11")  # of the ids of alerts; any that never changes

HELD, REJECTED, PROMOTED = "evergreen.step.held", "evergreen.step.rejected", "evergreen.step.promoted"
ROLLED_BACK, DRIFTING, FAILED = "evergreen.live.rolled_back", "evergreen.retention.drifting", "evergreen.run.failed"
Event = Literal[
    "evergreen.step.held", "evergreen.step.rejected", "evergreen.step.promoted", "evergreen.live.rolled_back",
    "evergreen.retention.drifting", "evergreen.run.failed",
]  # fmt: skip
NEEDS_A_LOOK = (HELD, REJECTED, DRIFTING, FAILED)  # the others are good news


class Alert(Spec):
    """One thing that happened."""

    id: uuid.UUID
    event: Event
    stream: str
    message: str
    step: int | None = None
    entry: int | None = None  # of the ledger of promotions
    run: str | None = None  # id of the flow run that failed
    time: str = ""  # ISO 8601, UTC; given when it enters the ledger


def named(event: Event, stream: str, *what: object) -> uuid.UUID:
    """The id of an alert: equal for the same event of the same thing."""
    return uuid.uuid5(NAMESPACE, " ".join(map(str, (event, stream, *what))))


def of_failure(stream: str, run: str, message: str) -> Alert:
    """The alert about a flow run that failed, the same for whoever tells of it."""
    return Alert(id=named(FAILED, "", run), event=FAILED, stream=stream, message=message, run=run)


def enter(alerts: list[Alert]) -> list[Alert]:
    """Those of `alerts` that were not in the ledger, which now are."""

    def fresh(found: list[dict]) -> list[dict]:
        known, now = {entry["id"] for entry in found}, datetime.now(UTC).isoformat(timespec="seconds")
        told = (alert.model_copy(update={"time": now}) for alert in alerts if str(alert.id) not in known)
        return [{"what": "raised", **alert.model_dump(mode="json")} for alert in told]

    return [_alert(entry) for entry in ledger.extend(LEDGER, fresh)] if alerts else []


def mark(alert: Alert, what: Literal["announced", "sent"]) -> None:
    """Note that the server was told, or that a notification was sent."""
    ledger.extend(LEDGER, lambda found: [{"what": what, "id": str(alert.id)}])


def unmarked(what: Literal["announced", "sent"], stream: str | None = None) -> list[Alert]:
    """The alerts, of one stream or of all, of which `what` is not noted, oldest first."""
    found = ledger.entries(LEDGER)
    done = {entry["id"] for entry in found if entry["what"] == what}
    return [
        _alert(entry)
        for entry in found
        if entry["what"] == "raised" and entry["id"] not in done and stream in (None, entry["stream"])
    ]


def last(count: int, stream: str | None = None) -> list[Alert]:
    """The newest alerts that need a look, of one stream or of all, oldest first."""
    raised = [entry for entry in ledger.entries(LEDGER) if entry["what"] == "raised"]
    found = [_alert(e) for e in raised if stream in (None, e["stream"]) and e["event"] in NEEDS_A_LOOK]
    return found[-count:]


def known_ids() -> set[str]:
    """The ids of all alerts of the ledger."""
    return {entry["id"] for entry in ledger.entries(LEDGER)}


def _alert(entry: dict) -> Alert:
    return Alert(**{name: value for name, value in entry.items() if name != "what"})
