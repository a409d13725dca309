"""How a living stream is: what is live since when, what arrived and waits, what the gate said, what runs next.

Read from the ledgers; what waits from a listing of the sources; what runs next from the Prefect server, where one is.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from data_catalog import alerts, promotions, store
from data_catalog.alerts import Alert
from data_catalog.promotions import Promotion
from data_catalog.refs import Spec
from flows.arriving import Waiting, configured, lock_of, look
from flows.handing_over import FLOW, ServerRefused, post, server
from flows.living_config import given_living
from models import living
from models.evaluation.scores import StepScores
from models.gate import Outcome
from tasks.locks import is_held

SHOWN = 5  # of the newest steps and alerts
WATCH = "watch"


class Live(Spec):
    """The weights that are live."""

    entry: int
    step: int | None  # None: the weights the stream began with
    checkpoint: str
    since: str
    deed: str
    by: str
    reason: str
    scores: StepScores | None  # None before the first step has been scored


class SeenStep(Spec):
    """A finished step in short."""

    step: int
    arrived: dict[str, int]  # dataset -> samples
    finished: str
    verdict: Outcome
    reasons: tuple[str, ...]
    decided: str  # what became of it
    commands: tuple[str, ...] = ()  # that settle it, where a person is to decide


class Scheduled(Spec):
    """A deployment that makes steps of a stream, or looks whether one is due."""

    deployment: str
    paused: bool  # its schedules are, or it has none
    next: str | None  # when it runs next


class StreamStatus(Spec):
    """One living stream."""

    stream: str
    steps: int
    live: Live | None
    open_step: int | None  # begun and not finished
    at_work: bool  # a run is
    newest: tuple[SeenStep, ...]  # steps, the newest first
    held: tuple[SeenStep, ...]
    waiting: Waiting | None
    scheduled: tuple[Scheduled, ...]
    unknown: tuple[str, ...]  # what could not be found out, and why
    alerts: tuple[Alert, ...]  # the newest first


def stream_status(stream: str, scan: bool = True) -> StreamStatus:
    """How a stream is now; `scan`: list its sources too, to see what waits."""
    digests, opened, held = living.finished(stream), living.begun(stream), living.undecided(stream)
    seen = {step: _seen(stream, step, digests[step]) for step in {*range(len(digests))[-SHOWN:], *held[-SHOWN:]}}
    waiting, scheduled, unknown = None, (), []
    if scan:
        try:
            waiting = look(configured(stream)[0])
        except (ValueError, OSError) as error:
            unknown.append(f"what waits: {error}")
    try:
        scheduled = _scheduled(stream)
    except ServerRefused as refused:
        unknown.append(f"what is scheduled: {refused}")
    return StreamStatus(
        stream=stream, steps=len(digests), live=_live(stream), open_step=opened.step if opened else None,
        at_work=is_held(lock_of(stream)), newest=tuple(seen[step] for step in sorted(seen, reverse=True)[:SHOWN]),
        held=tuple(seen[step] for step in held[-SHOWN:]), waiting=waiting, scheduled=scheduled, unknown=tuple(unknown),
        alerts=tuple(reversed(alerts.last(SHOWN, stream))),
    )  # fmt: skip


def _live(stream: str) -> Live | None:
    if (entry := promotions.live(stream)) is None:
        return None
    behind, last = living.behind(stream, entry), living.last_step(stream)
    scores = behind.record.summary if behind else last.first_summary if last else None
    return Live(entry=entry.number, step=entry.step, checkpoint=entry.checkpoint, since=entry.time, deed=entry.deed,
                by=entry.by, reason=entry.reason, scores=scores)  # fmt: skip


def _seen(stream: str, step: int, digest: str) -> SeenStep:
    done, decided = living.load_step(digest), promotions.decided(stream, step)
    at = min((origin["recorded_at"] for origin in store.origins(digest)), default=None)
    deeds = ("promote", "reject") if decided is None else ()
    commands = tuple(f"evergreen {deed} {stream} --step {step} --reason '...'" for deed in deeds)
    return SeenStep(
        step=step, arrived=done.arrival.samples, verdict=done.verdict.outcome, reasons=done.verdict.reasons,
        finished=datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at else "",
        decided=_decided(decided), commands=commands,
    )  # fmt: skip


def _decided(entry: Promotion | None) -> str:
    if entry is None:
        return "held"
    deed = {"promote": "promoted", "reject": "rejected"}[entry.deed]
    return f"{deed} by {'the gate' if entry.by == 'gate' else f'a person: {entry.reason}'}"


def _scheduled(stream: str) -> tuple[Scheduled, ...]:
    """The deployments of this stream and their next runs, as the Prefect server has them; none without a server."""
    if (url := server()) is None:
        return ()
    asked = {"flows": {"name": {"any_": [FLOW, WATCH]}}, "limit": 200}
    found = [each for each in post(url, "deployments/filter", asked) if _is_of(stream, each["parameters"])]
    names = {each["id"]: each["name"] for each in post(url, "flows/filter", {"flows": asked["flows"]})}
    return tuple(
        Scheduled(
            deployment=f"{names[each['flow_id']]}/{each['name']}", next=_next_run(url, each["id"]),
            paused=each["paused"] or not any(schedule["active"] for schedule in each["schedules"]),
        )
        for each in sorted(found, key=lambda each: each["name"])
    )  # fmt: skip


def _next_run(url: str, deployment: str) -> str | None:
    state = {
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"after_": datetime.now(UTC).isoformat()},
    }
    asked = {"deployments": {"id": {"any_": [deployment]}}, "flow_runs": state, "limit": 1,
             "sort": "EXPECTED_START_TIME_ASC"}  # fmt: skip
    found = post(url, "flow_runs/filter", asked)
    return found[0]["expected_start_time"] if found else None


def _is_of(stream: str, parameters: dict[str, Any]) -> bool:
    """Whether a deployment with these parameters is about a stream; one whose file is not here is not known to be."""
    given = parameters.get("config")
    if isinstance(given, dict):
        return given.get("name") == stream
    if not isinstance(given, str) or not Path(given).is_file():
        return False
    try:
        return given_living(given).name == stream
    except ValueError:  # no living stream, or a file that is being edited
        return False
