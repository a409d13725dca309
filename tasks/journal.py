"""Why each stage of a run was executed or re-used: what the run tells about itself."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from hashlib import sha256
from logging import Logger, LoggerAdapter, LogRecord, getLogger
from pathlib import Path

from pydantic import ValidationError

from data_catalog.in_use import in_use
from data_catalog.places import results_root
from data_catalog.refs import Spec
from data_catalog.store_files import write_atomically
from models.evaluation.record import StageRecord

Listener = Callable[[StageRecord], object]

ALWAYS = "runs every time"  # the reason of stages that are never re-used

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)  # task runner threads copy the context


class Fingerprint(Spec):
    """What one execution of a stage depended on."""

    revision: int
    inputs: dict[str, str]  # argument -> digest of its value


@contextlib.contextmanager
def journal(on_stage: Listener | None = None) -> Iterator[list[StageRecord]]:
    """Collect a StageRecord of every cached or uncached task that ends inside the block, in order of completion.

    `on_stage` is called with each as it ends, from the thread that ran the task. Housekeeping deletes nothing that
    the block may need.
    """
    with in_use(), collecting(on_stage) as stages:
        yield stages


@contextlib.contextmanager
def collecting(on_stage: Listener | None = None) -> Iterator[list[StageRecord]]:
    """As `journal`, for part of a run: housekeeping is kept away by the run."""
    stages: list[StageRecord] = []
    outer = _listener.get()  # a command may listen to the flow that it runs

    def listen(record: StageRecord) -> None:
        stages.append(record)
        if on_stage:
            on_stage(record)
        if outer:
            outer(record)

    token, task_runs = _listener.set(listen), getLogger("prefect.task_runs")
    task_runs.addFilter(_says_more_than_a_hook)
    try:
        yield stages
    finally:
        task_runs.removeFilter(_says_more_than_a_hook)
        _listener.reset(token)


def listener() -> Listener | None:
    """Who is told of stages that end here; a runner of other processes passes theirs on to it."""
    return _listener.get()


def tell(record: StageRecord, logger: Logger | LoggerAdapter) -> None:
    """Write `record`, which ends now, in the open journal, if there is one, and in the log of its run."""
    record = record.model_copy(update={"ended": time.time()})
    deed = "re-used" if record.reused else "ran"
    logger.info("%s: %s (%s), %.2f s", record.label, deed, record.reason, record.seconds)
    if listen := _listener.get():
        listen(record)


def remember(stage: str, label: str, fingerprint: Fingerprint) -> None:
    """Keep what `label` last depended on, for `what_changed` only: no decision rests on it."""
    write_atomically(_memory(stage, label), fingerprint.model_dump_json().encode())


def what_changed(stage: str, label: str, now: Fingerprint) -> str:
    """Why a stage without a result record has to run, in words."""
    if not _memory(stage, label).is_file():
        return "first run"
    try:
        past = Fingerprint.model_validate_json(_memory(stage, label).read_bytes())
    except ValidationError:
        return "first run, as far as can be known: the memory of the last one is unreadable"
    names = sorted(now.inputs.keys() | past.inputs.keys())
    changed = [f"`{name}`" for name in names if now.inputs.get(name) != past.inputs.get(name)]
    reasons = [f"revision {past.revision} -> {now.revision}"] if now.revision != past.revision else []
    reasons += [f"input{'s' * (len(changed) > 1)} {', '.join(changed)} changed"] if changed else []
    return "; ".join(reasons) or "its result record is gone"


def _says_more_than_a_hook(record: LogRecord) -> bool:
    """False for the two lines that Prefect logs around the hook that tells of re-use, for every stage."""
    return "ook 'tell_of_reuse'" not in record.getMessage()


def _memory(stage: str, label: str) -> Path:
    return results_root() / "last" / stage / f"{sha256(label.encode()).hexdigest()[:16]}.json"
