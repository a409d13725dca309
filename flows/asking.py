"""A run that ends with a held step asks a person in the UI; meanwhile it has no process, no lock and no slot.

The run is suspended: its process ends, and with the state `Suspended` Prefect frees the concurrency slot of the
deployment. (A paused run would keep its process, and lose it when the lease of the freed slot cannot be renewed.) An
answer makes a worker start the run again, which carries the answer out and ends.
"""

import json
import re
from typing import Literal

import httpx
from prefect import get_client, get_run_logger, suspend_flow_run
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.input import RunInput
from prefect.input.actions import read_flow_run_input
from prefect.input.run_input import keyset_from_base_key
from prefect.states import Completed
from pydantic import Field

from data_catalog import promotions
from data_catalog.promotions import Promotion
from data_catalog.store_files import write_atomically
from flows.handing_over import FLOW
from models import living
from models.decisions import promote_step, reject_step


class Answer(RunInput):
    """What the form asks."""

    deed: Literal["promote", "reject"] = Field(description="promote: the step goes live; reject: it never does")
    reason: str = Field(min_length=1, description="kept in the ledger for whoever looks for it later")
    replaces: int | None = Field(
        None, description="only if something else went live since: the number of the entry that the step replaces"
    )


def ask(stream: str, minutes: float | None) -> None:
    """Suspend this run until a person decides about the newest step, if that is held and nobody was asked yet.

    Only a run of a deployment asks: no worker would start another one again. Call it last, with no lock held.
    """
    run, last = _this_run(), living.last_step(stream)
    if minutes is None or run is None or run.deployment_id is None or run.parent_task_run_id is not None:
        return
    if last is None or promotions.decided(stream, last.step) or _asked(stream) == last.step:
        return
    get_run_logger().info("step %d of %s is held: `Resume` asks whether it goes live", last.step, stream)
    write_atomically(_memory(stream), json.dumps({"step": last.step, "run": str(run.id)}).encode())
    reasons = "\n".join(f"- {reason}" for reason in last.verdict.reasons)
    form = Answer.with_initial_data(description=f"Step {last.step} of {stream} is held:\n\n{reasons}")
    suspend_flow_run(wait_for_input=form, timeout=round(60 * minutes), key=_key(stream, last.step))


def carry_out_answer(stream: str) -> Promotion | None:
    """Enter what a person answered to this run, and return the entry; None if it asked nothing, or got no answer.

    Raises what `promote_step` and `reject_step` raise, LiveChanged above all.
    """
    run = _this_run()
    for step in _asked_by(run, stream) if run else []:
        given = read_flow_run_input(keyset_from_base_key(f"suspended-{_key(stream, step)}")["response"], run.id)
        if given is None:  # run again without an answer, which came too late or never
            continue
        answer, request = Answer(**given), f"{run.id}-{step}"
        known = promotions.decided(stream, step)
        if known and known.request != request:
            get_run_logger().warning("step %d was decided elsewhere: %s, %s", step, known.deed, known.reason)
            return known
        carry_out = {"promote": promote_step, "reject": reject_step}[answer.deed]
        return carry_out(stream, step, answer.reason, answer.replaces, request)
    return None


def close_questions(stream: str) -> int:
    """End the runs that ask about steps that are decided by now, and return how many; one that asks on is harmless."""
    closed = 0
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(
            flow_filter=FlowFilter(name={"any_": [FLOW]}), limit=200,
            flow_run_filter=FlowRunFilter(state={"type": {"any_": ["PAUSED"]}}),
        ):  # fmt: skip
            for known in filter(None, (promotions.decided(stream, step) for step in _asked_by(run, stream))):
                told = f"step {known.step} was decided elsewhere: {known.deed}, {known.reason}"
                client.set_flow_run_state(run.id, Completed(message=told), force=True)
                closed += 1
    return closed


def close_questions_if_possible(stream: str) -> str | None:
    """As `close_questions`; what was in the way, in words, None if nothing was."""
    try:
        close_questions(stream)
    except (httpx.HTTPError, RuntimeError) as error:  # RuntimeError: no server answers
        return f"a run that still asks about {stream} could not be ended, answering it does no harm: {error}"
    return None


def _asked_by(run: FlowRun, stream: str) -> list[int]:
    """The steps of `stream` that `run` has asked about."""
    keys = run.empirical_policy.pause_keys or set()
    found = (re.fullmatch(re.escape(_key(stream, 0))[:-1] + r"(\d+)", key) for key in keys)
    return sorted(int(match[1]) for match in found if match)


def _this_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return context.flow_run if context else None


def _asked(stream: str) -> int | None:
    """The step that was asked about last; only so that nobody is asked twice."""
    return json.loads(_memory(stream).read_text())["step"] if _memory(stream).is_file() else None


def _memory(stream: str):
    return living.file_of(stream, "asked.json")


def _key(stream: str, step: int) -> str:
    return f"{stream}-step-{step}"
