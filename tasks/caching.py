"""`cached` and `uncached`: the one place that decides when work may be skipped.

Key = task name + `revision` + inputs, so the same work has the same key in every run, process and home. Prefect's own
keys hold the run id, or lack the task's identity, and its hits do not look at the bytes that a result names.
"""

import asyncio
import functools
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from pickle import PicklingError
from typing import Any, Literal, ParamSpec, TypeVar

from prefect import State, Task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import TaskRun
from prefect.context import TaskRunContext
from prefect.filesystems import LocalFileSystem
from prefect.logging import get_run_logger
from prefect.logging.loggers import task_run_logger
from prefect.serializers import Serializer

from data_catalog import shared_files
from data_catalog.places import results_root
from data_catalog.store import MissingArtifact
from models.evaluation.record import StageRecord
from tasks.journal import ALWAYS, Fingerprint, remember, tell, what_changed
from tasks.locks import FlockManager
from tasks.retrying import is_worth_retrying
from tasks.values import UnsupportedValue, check_storable, digest_of_input, dump, load_intact

P = ParamSpec("P")
R = TypeVar("R")


def cached(
    revision: int, *, label: str | None = None, ignore: tuple[str, ...] = (), **options: Any
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A Prefect task whose work is skipped when its result is known and the bytes that it names are intact.

    Bump `revision` when the numbers would change. `label` names one call within a run and may use its arguments:
    "update/{recipe}/{data.step:03d}"; calls that share a label share the memory of what changed. `ignore` lists
    arguments that do not change the result (a device, a callback, a name to show). `options` go to Prefect's `Task`.
    Inputs and results are specs, references, numbers, strings, and lists or dicts of them; anything else raises
    UnsupportedValue. A digest in a result must name bytes in the store, or the result is never re-used.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        stage = Stage(function, revision, ignore)
        locks = FlockManager(lambda: results_root() / "locks")  # two runs at once do the work once
        key = StageKey(isolation_level="SERIALIZABLE", lock_manager=locks, stage=stage)
        return CachedTask(
            _explained(function, stage), cache_policy=key, result_serializer=VerifiedJSON(),
            persist_result=True, cache_result_in_memory=False, task_run_name=label or stage.name,
            on_completion=[tell_of_reuse], retry_condition_fn=is_worth_retrying, **options,
        )  # fmt: skip

    return decorate


def uncached(*, label: str | None = None, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A Prefect task that runs every time, for what records or looks around; the journal sees it like the others."""

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        return Task(
            _timed(function), cache_policy=NO_CACHE, persist_result=False,
            task_run_name=label or function.__name__, retry_condition_fn=is_worth_retrying, **options,
        )  # fmt: skip

    return decorate


class Stage:
    """A cached function and what its results depend on."""

    def __init__(self, function: Callable, revision: int, ignore: tuple[str, ...]):
        self.name, self.revision, self.ignore = function.__name__, revision, ignore
        self.signature = inspect.signature(function)
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{self.name} is async; cached stages are plain functions that run in threads")
        if unknown := set(ignore) - set(self.signature.parameters):
            raise TypeError(
                f"{self.name} ignores {sorted(unknown)}, which are not among its arguments "
                f"{list(self.signature.parameters)}"
            )

    def fingerprint(self, arguments: dict[str, Any]) -> Fingerprint:
        """Digests of the arguments that count; raises UnsupportedValue that names the task and the argument."""
        inputs = {
            name: digest_of_input(f"argument `{name}` of {self.name}", value)
            for name, value in arguments.items()
            if name not in self.ignore
        }
        return Fingerprint(revision=self.revision, inputs=inputs)

    def bound(self, args: tuple, kwargs: dict) -> dict[str, Any]:
        """The arguments of one call by name, defaults included."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def key(self, fingerprint: Fingerprint) -> str:
        """The name of the result record."""
        text = json.dumps([self.name, fingerprint.model_dump()], sort_keys=True)
        return f"{self.name}-{sha256(text.encode()).hexdigest()[:40]}"

    def reason(self, fingerprint: Fingerprint, label: str) -> str:
        """Why this call was no hit."""
        record = shared_files.read(results_root() / self.key(fingerprint))
        if record is None:
            return what_changed(self.name, label, fingerprint)
        return _fault(record) or "a new run was asked for"

    def knows(self, fingerprint: Fingerprint) -> bool:
        """Whether this call would be a hit."""
        record = shared_files.read(results_root() / self.key(fingerprint))
        return record is not None and _fault(record) is None


def _fault(record: bytes) -> str | None:
    """Why a result record is of no use, None if it is."""
    try:
        load_intact(json.loads(record)["result"])
    except MissingArtifact as error:
        return str(error).split(": ")[0]  # "sha256:ab12... is not in the store at ..."
    except (ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        return f"its result record cannot be used: {error}"
    return None


@dataclass
class StageKey(CachePolicy):
    """Task name, revision and content of the inputs."""

    stage: Stage | None = None

    def compute_key(self, task_ctx: TaskRunContext, inputs: dict, flow_parameters: dict, **kwargs: Any) -> str | None:
        """The record of this call; None for unsupported inputs, which the task itself then refuses.

        Prefect would only log an error raised here, and run the task uncached.
        """
        try:
            return self.stage.key(self.stage.fingerprint(inputs))
        except UnsupportedValue:
            return None


class VerifiedJSON(Serializer):
    """Results as JSON; loading one whose bytes are missing or damaged raises, which Prefect takes for a miss."""

    type: Literal["evergreen-verified-json"] = "evergreen-verified-json"

    def dumps(self, obj: Any) -> bytes:
        """The value as JSON."""
        return dump(obj).encode()

    def loads(self, blob: bytes) -> Any:
        """The value, if all that it names is intact."""
        return load_intact(blob)


class RecordFolder(LocalFileSystem):
    """A folder of result records, each written in one step: Prefect's own writes in place.

    Where EVERGREEN_RESULTS is a URL they are shared with other machines, and the folder holds what this one used.
    """

    _block_type_slug = "evergreen-record-folder"  # else it takes the place of Prefect's class in its registry

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> str:
        """Write the record and return its path."""
        shared_files.write(self._resolve_path(path), content)
        return str(self._resolve_path(path))

    async def awrite_path(self, path: str, content: bytes) -> str:
        """As `write_path`, off the event loop."""
        return await asyncio.to_thread(self.write_path, path, content)

    def read_path(self, path: str, _sync: bool = True) -> bytes:
        """The record; raises FileNotFoundError, which Prefect takes for a miss."""
        file = self._resolve_path(path)
        if (data := shared_files.read(file)) is None:
            raise FileNotFoundError(f"there is no result record {file}")
        return data

    async def aread_path(self, path: str) -> bytes:
        """As `read_path`, off the event loop."""
        return await asyncio.to_thread(self.read_path, path)


class CachedTask(Task[P, R]):
    """A task whose records lie in the home of the moment; Prefect would fix their folder at import."""

    @property
    def result_storage(self) -> RecordFolder:
        """The folder of the result records, asked for by Prefect at every run."""
        return RecordFolder(basepath=str(results_root()))

    @result_storage.setter
    def result_storage(self, value: Path | None) -> None:
        pass  # Task.__init__ assigns its default

    def is_known(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Whether the result of this call is there already, with all that it names."""
        stage = self.cache_policy.stage
        return stage.knows(stage.fingerprint(stage.bound(args, kwargs)))

    def __reduce__(self) -> tuple:
        """Travels to other processes by name, with the tries that the flow's process was configured with."""
        module, name = self.fn.__module__, self.fn.__qualname__
        if getattr(sys.modules.get(module), name, None) is not self:
            raise PicklingError(f"{module}.{name} is no task of an installed module: workers could not find it")
        return _task_named, (module, name), {"retries": self.retries, "retry_delay_seconds": self.retry_delay_seconds}

    def with_options(self, **options: Any) -> "CachedTask[P, R]":
        """As Prefect's, which would forget the subclass and refuse a folder that its server has not saved."""
        changed = super().with_options(**{"result_storage": results_root(), **options})
        changed.__class__ = CachedTask
        return changed


def _task_named(module: str, name: str) -> "CachedTask":
    return getattr(importlib.import_module(module), name)


def _explained(function: Callable[P, R], stage: Stage) -> Callable[P, R]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        context = TaskRunContext.get()
        if context is None:  # called as `.fn`, without Prefect
            return function(*args, **kwargs)
        label, fingerprint = context.task_run.name, stage.fingerprint(stage.bound(args, kwargs))
        reason, started = stage.reason(fingerprint, label), time.perf_counter()
        get_run_logger().info("%s: runs now (%s)", label, reason)
        result = function(*args, **kwargs)
        check_storable(f"result of {stage.name}", result)
        remember(stage.name, label, fingerprint)
        _tell_of_run(stage.name, label, reason, started)
        return result

    return run


def _timed(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        context, started = TaskRunContext.get(), time.perf_counter()
        result = function(*args, **kwargs)
        if context is not None:
            _tell_of_run(function.__name__, context.task_run.name, ALWAYS, started)
        return result

    return run


def _tell_of_run(stage: str, label: str, reason: str, started: float) -> None:
    seconds = time.perf_counter() - started
    tell(StageRecord(stage=stage, label=label, reused=False, reason=reason, seconds=seconds), get_run_logger())


def tell_of_reuse(task: Task, task_run: TaskRun, state: State) -> None:
    """Hook of every cached task: on a hit its body, which tells of runs, is not entered.

    The time of change of its record is that of its last use, by which housekeeping goes.
    """
    if state.name == "Cached":
        shared_files.used(results_root() / Path(state.data.metadata.storage_key).name)
        seconds = (state.timestamp - task_run.start_time).total_seconds()
        record = StageRecord(stage=task.name, label=task_run.name, reused=True, reason="unchanged", seconds=seconds)
        tell(record, task_run_logger(task_run, task))
