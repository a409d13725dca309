"""Have the step taken that is due: ask a Prefect server for a run, or take it here.

The server is spoken to over plain HTTP, as `curl` would: a look without a step loads nothing of Prefect.
"""

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from data_catalog.refs import Spec
from flows.arriving import Waiting, look
from flows.living_config import LivingConfig, given_living
from flows.server import api_headers, running_server

EVENT = "evergreen.data.arrived"
FLOW = "living-stream"
FAILED = ("FAILED", "CRASHED", "CANCELLED")
BUSY = (429, 503)
PAUSES = (0.2, 0.5, 1, 2, 4)  # seconds; what is asked for twice is done once
LOST_SECONDS = 600  # from the start of a run to when it holds the lock of its stream, at the longest
ATTEMPTS = 3  # runs for the same data, if the ones before failed


class HandedOver(Spec):
    """A run of a deployment that takes the step."""

    deployment: str
    run: str  # its id
    state: str
    is_new: bool  # False: it was asked for before, for the same data


class Watched(Spec):
    """One look of a watcher."""

    waiting: Waiting
    did: Literal["nothing", "handed over", "ran"]
    run: HandedOver | None = None  # of a deployment, which takes the step
    outcome: dict | None = None  # of the run in this process, as `living-stream` tells it


class ServerRefused(ValueError):
    """A Prefect server cannot be reached, or did not do what it was asked to."""


def watch_once(
    given: LivingConfig | str, deployment: str | None, run_here: Callable[[LivingConfig, bool], dict]
) -> Watched:
    """Look once, and start what is due: as a run of a deployment where there is one, else by `run_here`."""
    config = given_living(given)
    waiting = look(config)
    if waiting.verdict != "start":
        return Watched(waiting=waiting, did="nothing")
    path = given if isinstance(given, str) else None
    if url := server():
        found = find_deployment(url, config.name, path, deployment)
        if found is not None:
            run = hand_over(url, found, waiting, path or config.model_dump(mode="json"))
            return Watched(waiting=waiting, did="handed over" if run.is_new else "nothing", run=run)
    elif deployment:
        raise ValueError(
            f"no Prefect server runs that has the deployment {deployment!r}: start it, or set PREFECT_API_URL"
        )
    return Watched(waiting=waiting, did="ran", outcome=run_here(config, waiting.now))


def said_of(watched: Watched) -> str:
    """What a look found and did, as one line."""
    waiting, run = watched.waiting, watched.run
    if watched.did == "ran":
        outcome = watched.outcome
        step = f"step {outcome['step']}, {outcome['verdict']}" if outcome["did"] == "step" else outcome["did"]
        return f"{waiting.why}: ran here: {step}"
    if run is None:
        return f"{waiting.verdict}: {waiting.why}"
    told = "started" if run.is_new else f"was started before and is {run.state}"
    return f"{waiting.why}: run {run.run} of {run.deployment} {told}"


def server() -> str | None:
    """The API of PREFECT_API_URL, else of the `evergreen ui` that serves this home, None if neither is there."""
    return os.environ.get("PREFECT_API_URL") or running_server()


def find_deployment(url: str, stream: str, config: str | None, wanted: str | None = None) -> dict | None:
    """The deployment of `living-stream` for a stream; None if there is none at all.

    In this order: the one called `wanted`, the one called like the stream, the one whose `config` is the same file,
    the only one. Raises ValueError if that leaves several, or there is none called `wanted`.
    """
    found = post(url, "deployments/filter", {"flows": {"name": {"any_": [FLOW]}}, "limit": 200})
    by_name = {each["name"]: each for each in found}
    if wanted and wanted not in by_name:
        raise ValueError(f"{FLOW} has no deployment {wanted!r}; there are: {', '.join(sorted(by_name)) or 'none'}")
    if chosen := by_name.get(wanted or stream):
        return chosen
    same = [each for each in found if config and _is_same_file(each["parameters"].get("config"), config)]
    left = same or found
    if len(left) > 1:
        raise ValueError(
            f"several deployments may take a step of {stream}: {', '.join(sorted(each['name'] for each in left))}; "
            f"name one with `--deployment`, or call one {stream!r}"
        )
    return left[0] if left else None


def hand_over(url: str, deployment: dict, waiting: Waiting, config: str | dict) -> HandedOver:
    """Ask for the run that takes the step, once for the same data: who asks again is told of the same run.

    A run that failed, or was lost with its machine, is asked for anew, up to three times; then raises ValueError.
    """
    for attempt in range(ATTEMPTS):
        body = {"parameters": {"config": config, "now": waiting.now}, "tags": [f"stream:{waiting.stream}"],
                "idempotency_key": f"{waiting.id}-{waiting.unfinished}-{attempt}",
                "state": {"type": "SCHEDULED"}}  # fmt: skip
        status, run = _asked(url, f"deployments/{deployment['id']}/create_flow_run", body)
        if run["state_type"] not in FAILED and not _is_lost(run):
            return HandedOver(deployment=f"{FLOW}/{deployment['name']}", run=run["id"], state=run["state_name"],
                              is_new=status == 201)  # fmt: skip
    raise ValueError(
        f"{ATTEMPTS} runs of {FLOW}/{deployment['name']} for what waits for {waiting.stream} failed, the last one is "
        f"{run['id']}: look at its log, repair the cause, and run it again with `evergreen live`; what arrives "
        "meanwhile is tried anew"
    )


def announce(url: str, waiting: Waiting, config: str | None) -> str:
    """Tell the server that data arrived, and return the id of the event: the same for the same data."""
    payload = {"stream": waiting.stream, "config": config, "files": waiting.files, "settling": waiting.settling,
               "sources": [each.source for each in waiting.news if each.is_changed]}  # fmt: skip
    event = {"id": str(waiting.id), "event": EVENT, "occurred": datetime.now(UTC).isoformat(), "payload": payload,
             "resource": {"prefect.resource.id": f"evergreen.stream.{waiting.stream}"}}  # fmt: skip
    post(url, "events", [event])
    return event["id"]


def _is_lost(run: dict) -> bool:
    """Whether a run that is said to be at work for long cannot be: it would hold the lock of the stream by now."""
    if run["state_type"] != "RUNNING" or not run["start_time"]:
        return False
    return (datetime.now(UTC) - datetime.fromisoformat(run["start_time"])).total_seconds() > LOST_SECONDS


def _is_same_file(parameter: object, config: str) -> bool:
    return isinstance(parameter, str) and Path(parameter).resolve() == Path(config).resolve()


def post(url: str, path: str, body: Any) -> Any:
    """What the server answers to a request at `path` of its API; raises ServerRefused."""
    return _asked(url, path, body)[1]


def _asked(url: str, path: str, body: Any) -> tuple[int, Any]:
    """Status and answer; what a busy server puts off (its database is locked by another request) is asked again."""
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), api_headers())
    for pause in (*PAUSES, None):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                said = answer.read()
                return answer.status, json.loads(said) if said else None
        except urllib.error.HTTPError as error:
            if error.code not in BUSY or pause is None:
                said = error.read()[:500].decode(errors="replace")
                raise ServerRefused(f"{url}/{path} answered {error.code}: {said}") from error
            time.sleep(pause)
        except OSError as error:
            raise ServerRefused(
                f"no Prefect server answers at {url} ({error}): start it, or correct PREFECT_API_URL"
            ) from error
    raise AssertionError("the last pause is None")
