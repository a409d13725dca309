"""What a person sees while a flow runs: bad input is said once, by the command, and what is not is shown whole."""

import io
import logging

import pytest
from prefect import flow
from prefect.logging.handlers import PrefectConsoleHandler

from flows.console import watching
from flows.tables import show_rows
from models.evaluation.record import StageRecord
from tasks.caching import cached

pytestmark = pytest.mark.usefixtures("prefect_backend")


@cached(revision=1)
def stage_that_fails(number: int, kind: str) -> int:
    """Fail as bad input does, or as nobody foresaw."""
    raise {"bad input": ValueError, "defect": RuntimeError}[kind]("no such number")


@flow
def failing(kind: str, in_a_stage: bool) -> int:
    """Fail in a stage or outside of any."""
    if in_a_stage:
        return stage_that_fails.submit(1, kind).result()
    raise {"bad input": ValueError, "defect": RuntimeError}[kind]("no such number")


@pytest.fixture
def terminal():
    """What Prefect writes to the terminal."""
    text = io.StringIO()
    handler = PrefectConsoleHandler(stream=text, level=logging.WARNING)
    logging.getLogger().addHandler(handler)
    yield text
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("in_a_stage", [True, False])
def test_bad_input_leaves_no_traceback_of_the_engine(terminal, in_a_stage):
    with pytest.raises(ValueError), watching(quiet=True):
        failing("bad input", in_a_stage)
    assert terminal.getvalue() == ""


def test_what_nobody_foresaw_is_shown_with_its_traceback(terminal):
    with pytest.raises(RuntimeError), watching(quiet=True):
        failing("defect", in_a_stage=True)
    assert "Traceback" in terminal.getvalue() and "no such number" in terminal.getvalue()


def test_nothing_is_held_back_once_the_command_has_ended(terminal):
    with watching(quiet=True):
        pass
    with pytest.raises(ValueError):
        failing("bad input", in_a_stage=False)
    assert "Traceback" in terminal.getvalue()


def test_names_with_brackets_are_shown_as_they_are(capsys):
    show_rows("scores", [{"dataset": "A[b]", "value": 0.5}, {"dataset": "[/]", "value": 0.1}])
    with watching() as stages:
        stages.tell(StageRecord(stage="a", label="evaluate [/x] A[b]", reused=True, reason="unchanged", seconds=1))
    out, err = capsys.readouterr()
    assert "A[b]" in out and "[/]" in out and "evaluate [/x] A[b]" in err
