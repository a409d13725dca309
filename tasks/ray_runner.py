"""Prefect's runner of tasks on Ray, for stages that tell across processes what they do and outlive killed workers.

Long stages go to workers, the others to threads of the flow. What a stage tells its flow comes back beside its result,
so that a stage that ran twice because a worker died is told of once. Ray runs a stage again whose worker died;
Prefect's own retries end with the worker.
"""

import contextlib
import contextvars
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import ray
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.context import serialize_context
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed, State
from prefect.task_runners import ThreadPoolTaskRunner
from prefect_ray import RayTaskRunner
from prefect_ray.task_runners import PrefectRayFuture
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from data_catalog.in_use import in_use
from data_catalog.outage import Outage
from models.evaluation.record import StageRecord
from tasks import journal, progress
from tasks.board import Board

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  # between two looks at what workers tell
RECORDED_SECONDS = 3  # after which the server has written down what workers told it last
GIVE_UP_SECONDS = 10  # that stages of a flow that failed have for ending
LIGHT_THREADS = 4


class WorkersDied(Outage):
    """The workers of a stage died, as often as it may be tried."""


class Told(NamedTuple):
    """What a stage tells its flow."""

    stages: list[StageRecord]
    warnings: list[str]


class StageRunner(RayTaskRunner):
    """Submits the tasks in `options` to Ray, with these options, and others to threads of the flow.

    `connection`: arguments of `ray.init`; `environment`: asked at each task for what its worker is to have; `images`:
    of a dataset that one task takes.
    """

    def __init__(
        self,
        connection: Mapping[str, Any],
        options: Mapping[str, Mapping[str, Any]],
        environment: Callable[[], dict[str, str]],
        images: int,
    ):
        super().__init__(init_kwargs=dict(connection))
        self._options, self._environment, self.images = options, environment, images
        self._remote = ray.remote(on_worker)
        self._light = ThreadPoolTaskRunner(max_workers=LIGHT_THREADS)
        self._aside = contextlib.ExitStack()
        self._all: list[StageFuture] = []
        self._asked: list[StageFuture] = []  # what has not been heard of
        self._guard, self._ended, self._board = threading.Lock(), threading.Event(), None

    def submit(self, task: Any, parameters: dict, wait_for: Any = None, dependencies: Any = None) -> Any:
        """A future of the task, wherever it runs."""
        if task.name not in self._options:
            return self._light.submit(task, parameters, wait_for, dependencies)
        context = for_workers(serialize_context())
        given, upstream = self._exchange_prefect_for_ray_futures(parameters)
        asked = self._remote.options(name=task.name, num_returns=2, **self._options[task.name])
        task_run_id = uuid4()
        both = asked.remote(
            self._environment(), self._board, *upstream, task=task, task_run_id=task_run_id, parameters=given,
            wait_for=wait_for, dependencies=dependencies, context=context,
        )  # fmt: skip
        future = StageFuture(task_run_id, task.name, *both, _stages_in(parameters))
        with self._guard:
            self._asked.append(future)
            self._all.append(future)
        return future

    def __enter__(self) -> "StageRunner":
        self._aside.enter_context(contextlib.redirect_stdout(sys.stderr))  # Ray tells of dead workers on stdout
        try:
            super().__enter__()
        except (ConnectionError, RuntimeError, RayError) as error:
            self._aside.close()
            raise Outage(
                f"no Ray answers at {self.init_kwargs['address']}: start the cluster, correct `execution.stages`, or "
                "take threads; where the cluster asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH. "
                f"Ray said: {error}"
            ) from error
        self._light.__enter__()
        if progress.listener():
            self._board = ray.remote(num_cpus=0)(Board).remote()
        context = contextvars.copy_context()
        self._listening = threading.Thread(target=context.run, args=(self._listen,), name="ray-stages", daemon=True)
        self._listening.start()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._light.__exit__(*exc_info)
        self._ended.set()
        self._listening.join()
        for future in self._asked:
            future.wait() if exc_info[0] is None else future.cancel()
        deadline = time.monotonic() + GIVE_UP_SECONDS
        for future in self._asked if exc_info[0] else ():
            future.give_up(max(0.0, deadline - time.monotonic()))
        if exc_info[0] is not None:
            time.sleep(RECORDED_SECONDS)
            for future in self._all:
                future.close_on_server()
        super().__exit__(*exc_info)
        self._aside.close()

    def _listen(self) -> None:
        """Pass on what workers tell until the flow has all it asked for."""
        while not self._ended.wait(LOOK_SECONDS):
            with self._guard:
                self._asked = [future for future in self._asked if not future.is_heard]
                waiting = {future.told: future for future in self._asked}
            done = ray.wait([*waiting], num_returns=len(waiting), timeout=0)[0] if waiting else []
            for reference in done:
                waiting[reference].wait()
            if self._board is not None:
                self._show_progress()

    def _show_progress(self) -> None:
        try:
            for label, (done, total, note) in ray.get(self._board.take.remote()).items():
                progress.listener()(label, done, total, note)
        except RayError as error:
            log.warning("how far stages are is not shown any more: %s", error)
            self._board = None


class StageFuture(PrefectRayFuture):
    """A stage on Ray: its final state, and what it tells, to the journal that was open when it was asked for."""

    def __init__(
        self,
        task_run_id: UUID,
        stage: str,
        state: ray.ObjectRef,
        told: ray.ObjectRef,
        before: Sequence["StageFuture"] = (),
    ):
        super().__init__(task_run_id, state)
        self.stage, self.told, self.is_heard = stage, told, False
        self._before = before  # whose results it was given
        self._hear, self._guard = journal.listener(), threading.Lock()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it has ended, at most `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            self._settle(timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> Any:
        """What the stage returned; raises what it raised, and WorkersDied."""
        self._settle(timeout)
        return super().result(timeout, raise_on_failure)

    def cancel(self) -> None:
        """Tell the worker to stop."""
        if not self.is_heard:
            ray.cancel(self.wrapped_future)

    def give_up(self, seconds: float) -> None:
        """Wait for its end, and let it not be `Running` for good on the server if there is none."""
        self.wait(seconds)
        if not self.is_heard:
            self._final_state = Crashed(message="its flow ended before it did")

    def close_on_server(self) -> None:
        """Say once more that it crashed: the server may have learnt that it began only after it was told."""
        if self._final_state is not None and self._final_state.is_crashed():
            _tell_server(self.task_run_id, self._final_state)

    def _settle(self, timeout: float | None) -> None:
        """Take state and tidings once; whoever asks first, the flow or who listens for it, passes them on."""
        try:
            state, told = ray.get([self.wrapped_future, self.told], timeout=timeout)
        except GetTimeoutError as error:
            raise TimeoutError(f"{self.stage} did not end within {timeout} s") from error
        except RayError as error:
            state, told = self._crashed(error), Told([], [])
        with self._guard:
            if self.is_heard:
                return
            self._final_state, self.is_heard = state, True
            for warning in told.warnings:
                log.warning("%s: %s", self.stage, warning)
            for record in told.stages if self._hear else ():
                self._hear(record)
            if state.is_crashed():
                _tell_server(self.task_run_id, state)

    def _crashed(self, error: RayError) -> State:
        for other in self._before:  # Ray raises their deaths here too
            other.wait()
            if other.state.is_crashed():
                return Crashed(message=f"not run: {other.state.message}", data=other.state.data)
        if isinstance(error, RayTaskError) and not isinstance(error.cause, RayError):
            return Crashed(message=f"not run by its worker: {error.cause}", data=error.as_instanceof_cause())
        died = WorkersDied(
            f"the workers of {self.stage} died, as often as `execution.stages.retries` lets it be tried: most often "
            "memory is short; give the stage more `cpus`, so that fewer run at once, and run it again, nothing that "
            f"was done is lost. Ray said: {str(error).strip()[:1000]}"
        )
        return Crashed(message=str(died), data=died)


def _stages_in(value: Any) -> list[StageFuture]:
    """The stages whose results a call is given, wherever in its arguments."""
    if isinstance(value, StageFuture):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [future for each in inside for future in _stages_in(each)]


def on_worker(environment: Mapping[str, str], board: Any, *upstream: Any, **call: Any) -> tuple[State, Told]:
    """Run a task as Prefect's runner does, in a worker; returns its state and what it tells its flow."""
    os.environ.update(environment)
    with in_use(), _posting(board), _warnings() as warnings, journal.collecting() as stages:
        state = RayTaskRunner._run_prefect_task(*upstream, **call)
        if state.is_completed():  # the value itself: the flow may be where this worker's result record is not
            state.data = state.result()
    return state, Told(stages, warnings)


def for_workers(context: dict[str, Any]) -> dict[str, Any]:
    """What a worker is to know of the flow: which run it is of, and where its API is.

    Keys and passwords are in Prefect's settings and may be in parameters and variables of a run: they stay here. So
    does the flow itself, which would travel with its whole module.
    """
    of_flow = context["flow_run_context"]
    run = of_flow["flow_run"]
    bare = {"parameters": {}, "job_variables": None}
    run = run | bare if isinstance(run, dict) else run.model_copy(update=bare)
    stand_in = Flow(_nothing, name=of_flow["flow"].name)
    settings = {"api": {"url": PREFECT_API_URL.value()}}
    return context | {
        "flow_run_context": of_flow | {"flow": stand_in, "flow_run": run, "parameters": {}},
        "settings_context": {"profile": {"name": "flow"}, "settings": settings},
        "deployment_parameters": None,
    }


def _nothing() -> None:
    """The body of the flow, as far as workers know it."""


@contextlib.contextmanager
def _posting(board: Any) -> Iterator[None]:
    """Write on the board how far stages are, if the flow looks at one."""
    if board is None:
        yield
        return
    written: dict[str, float] = {}

    def post(label: str, done: int, total: int, note: str) -> None:
        now = time.monotonic()
        if done == total or now - written.get(label, -LOOK_SECONDS) >= LOOK_SECONDS:
            written[label] = now
            board.put.remote(label, done, total, note)

    with progress.listening(post):
        yield


@contextlib.contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what is warned of, which a terminal shows where the flow is."""
    found: list[str] = []
    keeper = logging.Handler(logging.WARNING)
    keeper.emit = lambda record: found.append(record.getMessage())
    keeper.addFilter(lambda record: record.levelno == logging.WARNING)  # errors are raised where the flow is
    loggers = [logging.getLogger(), logging.getLogger("prefect")]
    for some in loggers:
        some.addHandler(keeper)
    try:
        yield found
    finally:
        for some in loggers:
            some.removeHandler(keeper)


def _tell_server(task_run_id: UUID, state: State) -> None:
    """Set the last state of a task run whose worker could not."""
    with get_client(sync_client=True) as client:
        try:
            client.set_task_run_state(task_run_id, state.model_copy(update={"data": None}), force=True)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 404:  # it had not begun
                raise
