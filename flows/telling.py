"""Tell people what happened to a living stream: in the ledger of alerts, and as events that automations hear."""

from collections.abc import Sequence
from datetime import UTC, datetime
from logging import Logger, LoggerAdapter, getLogger
from pathlib import Path
from typing import Any

from prefect import Flow, State
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.logging.loggers import flow_run_logger
from prefect.settings import PREFECT_API_URL

from data_catalog import alerts
from data_catalog.alerts import Alert
from flows.arriving import configured
from flows.handing_over import ServerRefused, post, server
from flows.living_config import LivingConfig, given_living
from flows.status_page import markdown
from flows.stream_status import stream_status
from models.alerting import AlertSpec, due


def tell(stream: str, spec: AlertSpec, log: Logger | LoggerAdapter | None = None) -> list[Alert]:
    """Raise what the ledgers of a stream call for, and return it; the server is told what it does not know yet."""
    raised = alerts.enter(due(stream, spec))
    announce(alerts.unmarked("announced", stream), log)
    return raised


def tell_of(stream: str, log: Logger | LoggerAdapter | None = None) -> list[Alert]:
    """As `tell`, for a stream by its name: by what its last step was configured with."""
    return tell(stream, configured(stream)[0].living.alerts, log)


def show_status(stream: str) -> None:
    """Make the status of a stream an artifact of the run at hand, which is not at work when somebody reads it."""
    status = stream_status(stream, scan=False).model_copy(update={"at_work": False})
    create_markdown_artifact(markdown(status), key=f"{stream}-status", description=f"{stream} after this run")


def announce(waiting: Sequence[Alert], log: Logger | LoggerAdapter | None = None) -> None:
    """Post alerts to the Prefect server as events with their ids, of which a server takes each once.

    Where none is, nobody listens: they are done with. One that does not answer is told at the next call.
    """
    url = PREFECT_API_URL.value() or server()
    for alert in waiting:
        try:
            if url:
                post(url, "events", [as_event(alert)])
        except ServerRefused as refused:
            (log or getLogger(__name__)).warning("no automation hears of `%s` yet: %s", alert.message, refused)
            return
        alerts.mark(alert, "announced")


def as_event(alert: Alert) -> dict:
    """An alert in the form that Prefect's API takes."""
    return {
        "id": str(alert.id),
        "event": alert.event,
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"evergreen.stream.{alert.stream}"},
        "payload": alert.model_dump(mode="json", exclude={"time"}),
    }


def tell_of_failure(flow: Flow, run: FlowRun, state: State) -> None:
    """Hook of flows of living streams that failed or were told to stop; a run that is killed is Prefect's to notice."""
    given = run.parameters.get("config", run.parameters.get("stream"))
    alert = alerts.of_failure(_name(given), str(run.id), f"{flow.name} failed: {state.message}"[:1000])
    alerts.enter([alert])
    announce(alerts.unmarked("announced", alert.stream), flow_run_logger(run, flow))


def _name(given: Any) -> str:
    """The name of the stream a run was about, as far as its parameters tell."""
    if isinstance(given, dict):
        return given.get("name", "unknown")
    try:
        return given_living(given).name if isinstance(given, LivingConfig | str) else "unknown"
    except (ValueError, OSError):  # what is wrong with it is what the run failed of
        return Path(given).stem
