"""What a person decides about a living stream, as flows: buttons in the UI, with a form each.

The commands of the same names call the same functions without Prefect: see flows/cli_living.py.
"""

from typing import Annotated

from prefect import flow, get_run_logger, runtime
from pydantic import Field

from data_catalog.promotions import Promotion
from flows.asking import close_questions_if_possible
from flows.environment import open_home
from flows.telling import show_status, tell_of
from models.decisions import promote_step, reject_step, roll_back
from tasks.registry import register
from tasks.verdict import show_verdict

Stream = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", examples=["living"])]
Step = Annotated[int, Field(ge=0, examples=[7])]
Reason = Annotated[str, Field(min_length=1, examples=["better on shoes, which matter most this season"])]
Entry = Annotated[int | None, Field(ge=0, examples=[3])]


@flow(name="promote", flow_run_name="promote {stream} step {step}")
def promote(stream: Stream, step: Step, reason: Reason, replaces: Entry = None) -> Promotion:
    """Make the candidate of a step live: one that the gate held, or after all one that it rejected.

    Args:
        stream: Name of the living stream, `name` in its YAML file.
        step: Number of the step, counted from 0; `evergreen status` lists those that are held.
        reason: Kept in the ledger for whoever looks for it later.
        replaces: Number of the ledger entry that is live now. Needed only where another one went live since the step
            was judged; if yet another one is live when this runs, nothing is done.
    """
    open_home()
    entry = promote_step(stream, step, reason, replaces, _request())
    show_decision(stream, entry)
    return entry


@flow(name="reject", flow_run_name="reject {stream} step {step}")
def reject(stream: Stream, step: Step, reason: Reason, replaces: Entry = None) -> Promotion:
    """Settle that a held step does not go live; what is live stays.

    Args:
        stream: Name of the living stream, `name` in its YAML file.
        step: Number of the step, counted from 0; `evergreen status` lists those that are held.
        reason: Kept in the ledger for whoever looks for it later.
        replaces: Number of the ledger entry that is live now; if another one is when this runs, nothing is done.
    """
    open_home()
    entry = reject_step(stream, step, reason, replaces, _request())
    show_decision(stream, entry)
    return entry


@flow(name="rollback", flow_run_name="rollback {stream}")
def rollback(stream: Stream, reason: Reason, to: Entry = None, replaces: Entry = None) -> Promotion:
    """Make earlier weights live again; the next step starts from them.

    Args:
        stream: Name of the living stream, `name` in its YAML file.
        reason: Kept in the ledger for whoever looks for it later.
        to: Number of the ledger entry whose weights go live again; empty: those that were live before the present ones.
        replaces: Number of the ledger entry that is live now; if another one is when this runs, nothing is done.
    """
    open_home()
    entry = roll_back(stream, reason, to, replaces, _request())
    show_decision(stream, entry)
    return entry


def show_decision(stream: str, entry: Promotion) -> None:
    """Bring the views up to the ledger, in which the deed is by now."""
    get_run_logger().info("%s: entry %d, %s: %s", stream, entry.number, entry.deed, entry.reason)
    register(stream)
    tell_of(stream, get_run_logger())
    if entry.step is not None and entry.deed != "rollback":
        show_verdict(stream, entry.step)
    if problem := close_questions_if_possible(stream):
        get_run_logger().warning(problem)
    show_status(stream)


def _request() -> str:
    """The id of this run, which its retries share."""
    return runtime.flow_run.get_id()
