"""What passes between a flow and its workers on Ray; the workers themselves are in tests/prove_ray.py."""

import logging
import pickle
from uuid import uuid4

import pytest
import ray
from prefect import flow
from prefect.context import serialize_context
from prefect.settings import PREFECT_API_KEY, temporary_settings
from prefect.states import Completed
from ray.exceptions import GetTimeoutError, RayTaskError, WorkerCrashedError

from models.evaluation.record import StageRecord
from tasks import journal, progress, ray_runner
from tasks.board import Board
from tasks.ray_runner import StageFuture, Told, WorkersDied, for_workers, on_worker

RAN = StageRecord(stage="s", label="s", reused=False, reason="first run", seconds=1)


@pytest.fixture
def ended(monkeypatch):
    """Makes a future of a stage whose worker answers this, or raises it."""
    monkeypatch.setattr(ray_runner, "_tell_server", lambda *_: None)

    def future(answer):
        def get(*_, **__):
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(ray, "get", get)
        return StageFuture(uuid4(), "embed_dataset", None, None)

    return future


def test_a_stage_that_is_asked_for_again_is_told_of_once(ended):
    with journal.collecting() as stages:
        future = ended((Completed(data=7), Told([RAN], [])))
        future.wait()
        future.wait()
    assert stages == [RAN]


def test_what_a_worker_warned_of_is_warned_of_in_the_flow(ended, caplog):
    ended((Completed(data=7), Told([], ["no clean images"]))).wait()
    assert "embed_dataset: no clean images" in caplog.text


@pytest.mark.parametrize("error", [WorkerCrashedError(), RayTaskError("f", "", WorkerCrashedError())])
def test_workers_that_died_for_good_are_an_outage_that_says_what_to_do(ended, error):
    with pytest.raises(WorkersDied, match=r"embed_dataset died.*memory"):
        ended(error).result()


def test_the_stage_that_died_is_named_by_those_that_wait_for_it(ended):
    piece = ended(WorkerCrashedError())
    piece.stage = "embed_rows"
    whole = StageFuture(uuid4(), "embed_dataset", None, None, ray_runner._stages_in({"pieces": [piece], "rows": 3}))
    with pytest.raises(WorkersDied, match="the workers of embed_rows died"):
        whole.result()


def test_what_a_worker_could_not_begin_with_is_not_called_its_death(ended):
    with pytest.raises(ImportError, match="no module"):
        ended(RayTaskError("f", "... no module", ImportError("no module"))).result()


def test_a_stage_that_goes_on_is_not_told_of(ended):
    future = ended(GetTimeoutError("later"))
    future.wait(0)
    assert not future.is_heard


def test_a_worker_returns_what_a_stage_told_beside_its_state(monkeypatch):
    def body(**_):
        journal.tell(RAN, logging.getLogger("stage"))
        logging.getLogger("models").warning("odd")
        progress.listener()("embed A", 1, 2, "")
        return Completed(data=7)

    board = Board()
    written = type("Handle", (), {"put": type("Put", (), {"remote": staticmethod(board.put)})})
    monkeypatch.setattr(ray_runner.RayTaskRunner, "_run_prefect_task", staticmethod(body))
    state, told = on_worker({}, written, context={})
    assert (state.result(), [stage.label for stage in told.stages], told.warnings) == (7, ["s"], ["odd"])
    assert board.take() == {"embed A": (1, 2, "")} and board.take() == {}


def test_no_key_and_no_parameter_of_a_run_goes_to_workers(prefect_backend):
    @flow
    def secretive(word: str) -> bytes:
        return pickle.dumps(for_workers(serialize_context()), protocol=4)

    with temporary_settings({PREFECT_API_KEY: "secret-key"}):
        sent = secretive("secret-word")
    assert b"secret-key" not in sent and b"secret-word" not in sent
