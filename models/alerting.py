"""What people should hear of a living stream: made of its ledgers alone, so a kill loses nothing."""

from collections.abc import Iterator

from pydantic import Field

from data_catalog import alerts, promotions
from data_catalog.alerts import DRIFTING, HELD, PROMOTED, REJECTED, ROLLED_BACK, Alert, named
from data_catalog.promotions import Promotion, weights_in_words
from data_catalog.refs import Spec
from models import living

RECENT = 20  # entries and steps that are looked at: a stream that is older than its alerts raises no flood of them
EVENTS = {"promote": PROMOTED, "reject": REJECTED, "rollback": ROLLED_BACK}


class AlertSpec(Spec):
    """When something is drifting, although every step passed the gate."""

    retention_drop: float | None = Field(
        0.03, gt=0, le=1, description="zero-shot retention of the live model so far below that of the weights the "
        "stream began with raises an alert, once each time it falls that far; null: never",
    )  # fmt: skip


def due(stream: str, spec: AlertSpec) -> list[Alert]:
    """The alerts that the ledgers call for and that were not raised yet, in the order of the entries."""
    known = alerts.known_ids()
    return [alert for alert in _called_for(stream, spec) if str(alert.id) not in known]


def _called_for(stream: str, spec: AlertSpec) -> Iterator[Alert]:
    for entry in promotions.entries(stream)[-RECENT:]:
        if (event := EVENTS.get(entry.deed)) is not None:
            yield Alert(id=named(event, stream, entry.number), event=event, stream=stream, step=entry.step,
                        entry=entry.number, message=_said(stream, entry))  # fmt: skip
            if drop := _crossing(stream, entry, spec):
                yield Alert(
                    id=named(DRIFTING, stream, entry.number), event=DRIFTING, stream=stream, step=entry.step,
                    entry=entry.number, message=f"{stream}: with step {entry.step} the zero-shot retention of what is "
                    f"live lies {drop:.3f} below that of the weights the stream began with; each step passed the gate",
                )  # fmt: skip
    for step in living.undecided(stream)[-RECENT:]:
        reasons = "; ".join(living.step_at(stream, step).verdict.reasons)
        yield Alert(id=named(HELD, stream, step), event=HELD, stream=stream, step=step,
                    message=f"{stream}: step {step} is held for a person: {reasons}")  # fmt: skip


def _crossing(stream: str, entry: Promotion, spec: AlertSpec) -> float | None:
    """How far retention has fallen since the start, if it is with this entry that it has fallen far enough."""
    if entry.deed != "promote" or entry.step is None or spec.retention_drop is None:
        return None
    step = living.step_at(stream, entry.step)
    first = step.first_summary.zero_shot_retention
    now, before = first - step.record.summary.zero_shot_retention, first - step.live_summary.zero_shot_retention
    return now if before < spec.retention_drop <= now else None


def _said(stream: str, entry: Promotion) -> str:
    what = weights_in_words(entry.step)
    deed = {"promote": "is live", "reject": "is rejected", "rollback": "is live again"}[entry.deed]
    return f"{stream}: {what} {deed}, by {entry.by}: {entry.reason}"
