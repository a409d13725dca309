"""The flow behind automations: keeps an alert, shows it, and sends it where EVERGREEN_ALERT_BLOCK says."""

import os
from typing import Annotated

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from pydantic import Field

from data_catalog import alerts
from data_catalog.alerts import FAILED, HELD, Alert, Event
from data_catalog.refs import Spec
from flows.environment import open_home

BLOCK = "EVERGREEN_ALERT_BLOCK"


class Alerted(Spec):
    """What became of an alert."""

    alert: Alert
    is_new: bool  # whether the ledger lacked it
    sent: bool  # by this run


@flow(name="alert", flow_run_name="{event} {stream}")
def alert(
    event: Event,
    stream: Annotated[str, Field(examples=["living"])],
    message: str,
    id: str | None = None,
    step: Annotated[int | None, Field(ge=0)] = None,
    run: str | None = None,
) -> Alerted:
    """Keep an alert in the store, show it, and send it once through the block that EVERGREEN_ALERT_BLOCK names.

    Args:
        event: What kind of thing happened.
        stream: Name of the living stream.
        message: What happened, in a sentence.
        id: Of the event: what was told of once is not told of again.
        step: Number of the step it is about.
        run: Id of the flow run that failed.
    """
    open_home()
    told = _alert(event, stream, message, id, step, run)
    is_new = bool(alerts.enter([told]))
    create_markdown_artifact(page(told), key=f"alert-{stream}", description=told.message[:200])
    return Alerted(alert=told, is_new=is_new, sent=send(told))


def send(told: Alert) -> bool:
    """Send an alert unless it was sent before, or nowhere is named; raises ValueError for what is no such block."""
    log, name = get_run_logger(), os.environ.get(BLOCK)
    if name is None:
        log.info("%s is not set: the alert is in the ledger and on this page alone", BLOCK)
        return False
    if told.id not in {waiting.id for waiting in alerts.unmarked("sent")}:
        log.info("this was sent before")
        return False
    try:
        block = Block.load(name)
    except ValueError as error:
        raise ValueError(f"{BLOCK} names {name!r}, which Prefect cannot load: {error}") from error
    if not isinstance(block, NotificationBlock):
        raise ValueError(
            f"{BLOCK} names {name!r}, which sends nothing: name a notification block, e.g. slack-webhook/ops"
        )
    block.notify(page(told), subject=told.message[:120])
    alerts.mark(told, "sent")
    return True


def page(told: Alert) -> str:
    """The alert as markdown, with what to do about it."""
    return "\n\n".join([f"# {told.event}", told.message, *_what_to_do(told)]) + "\n"


def _what_to_do(told: Alert) -> list[str]:
    if told.event == HELD:
        decide = [f"evergreen {deed} {told.stream} --step {told.step} --reason '...'" for deed in ("promote", "reject")]
        return ["Look at the verdict, then one of:", "\n".join(["```", *decide, "```"])]
    if told.event == FAILED:
        return ["The next run of the stream goes on where this one stopped; its log says what is to be repaired."]
    return [f"`evergreen status` shows {told.stream} as it is now."]


def _alert(event: Event, stream: str, message: str, given: str | None, step: int | None, run: str | None) -> Alert:
    """An alert as it was told, under the id it has in the ledger."""
    if event == FAILED and run is not None:
        return alerts.of_failure(stream, run, message)
    return Alert(
        id=given or alerts.named(event, stream, message), event=event, stream=stream, message=message, step=step
    )
