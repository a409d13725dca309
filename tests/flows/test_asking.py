"""A deployed run that ends with a held step asks a person: once, without a process, and the answer is carried out."""

import contextlib

import pytest
from prefect import flow, get_client
from prefect.artifacts import Artifact
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flow_runs import resume_flow_run

from data_catalog import promotions
from data_catalog.promotions import LiveChanged
from flows import promotion
from flows.asking import FLOW, ask, carry_out_answer, close_questions
from models.decisions import promote_step, reject_step, roll_back
from tests.models.held_steps import begin_pets

pytestmark = pytest.mark.usefixtures("prefect_backend")


@flow(name=FLOW)
def asks(minutes: float | None = 10) -> str:
    """What `living-stream` does about a held step, and nothing else."""
    if entry := carry_out_answer("pets"):
        return f"{entry.deed} {entry.step}"
    ask("pets", minutes)
    return "went on"


@pytest.fixture
def pets(monkeypatch):
    """A stream whose step 2 is the newest, and held."""
    return begin_pets(monkeypatch)


@pytest.fixture
def deployed():
    """Makes runs of a deployment, which a worker would start."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(asks), name="pets")
        yield lambda: client.create_flow_run_from_deployment(deployment)
        client.delete_deployment(deployment)


def started(run: FlowRun, minutes: float | None = 10):
    """The state that a worker's process ends `run` in, be it the first time or after an answer."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run.id)
    with contextlib.suppress(Pause):
        run_flow(asks, flow_run=run, parameters={"minutes": minutes}, return_type="state")
    return state_of(run)


def state_of(run: FlowRun):
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run.id).state


def answer(run: FlowRun, **given) -> None:
    resume_flow_run(run.id, run_input={"reason": "seen"} | given)


def decisions() -> list[tuple]:
    return [(entry.deed, entry.step, entry.reason) for entry in promotions.entries("pets")[1:]]


@pytest.mark.parametrize("deed", ["promote", "reject"])
def test_an_answer_starts_the_run_again_which_carries_it_out(pets, deed, deployed):
    run = deployed()
    assert started(run).name == "Suspended"
    answer(run, deed=deed)
    assert started(run).is_completed()
    assert decisions() == [(deed, 2, "seen")]
    assert started(run).is_completed() and len(decisions()) == 1  # run again


def test_an_answer_that_is_none_is_refused_by_the_form(pets, deployed):
    run = deployed()
    started(run)
    with pytest.raises(RuntimeError, match="'maybe' is not one of"):
        answer(run, deed="maybe")
    assert state_of(run).name == "Suspended"


def test_nobody_is_asked_twice_nor_about_what_is_decided(pets, deployed):
    started(deployed())
    assert started(deployed()).is_completed()  # the next run does not wait for the answer
    reject_step("pets", 2, "bad")
    assert started(deployed()).is_completed()


def test_a_run_of_no_deployment_and_one_that_is_not_to_ask_go_on(pets, deployed):
    assert asks() == "went on"
    assert started(deployed(), minutes=None).is_completed()
    assert decisions() == []


def test_what_is_decided_elsewhere_ends_the_question(pets, deployed):
    run = deployed()
    started(run)
    assert close_questions("pets") == 0 and state_of(run).name == "Suspended"
    promote_step("pets", 2, "from the shell")
    assert close_questions("pets") >= 1  # the pets of other tests asked too
    state = state_of(run)
    assert state.is_completed() and state.message == "step 2 was decided elsewhere: promote, from the shell"


def test_an_answer_that_comes_after_another_decision_changes_nothing(pets, deployed):
    run = deployed()
    started(run)
    reject_step("pets", 2, "from the shell")
    answer(run, deed="promote")
    assert started(run).is_completed()
    assert decisions() == [("reject", 2, "from the shell")]


def test_an_answer_over_weights_that_went_live_since_fails_and_says_why(pets, deployed):
    run = deployed()
    started(run)
    promote_step("pets", 1, "better")
    answer(run, deed="promote")
    state = started(run)
    assert state.is_failed() and "add `--replaces 1`" in state.message
    assert promotions.live("pets").step == 1


def test_the_flows_of_the_buttons_enter_a_decision_once_and_show_it(pets, monkeypatch):
    shown = []
    monkeypatch.setattr(promotion, "register", shown.append)
    for view in ("tell_of", "show_status"):  # have tests of their own, with real steps
        monkeypatch.setattr(promotion, view, lambda *_: None, raising=False)
    entry = promotion.promote("pets", 2, "good")
    assert "step 2: promoted by a person: good (entry 1)" in Artifact.get("verdict-pets").data
    (row,) = (line for line in Artifact.get("verdict-pets").data.splitlines() if "zero-shot retention |" in line)
    assert "| -0.020 |" in row and row.endswith("| 0.480 | 0.500 |")
    promotion.reject("pets", 1, "bad")
    back = promotion.rollback("pets", "complaints")
    assert (entry.number, back.returns_to, shown) == (1, 0, ["pets"] * 3)
    with pytest.raises(LiveChanged):
        promotion.rollback("pets", "complaints", replaces=1)
    assert roll_back("pets", "no, step 2", to=1).step == 2


def test_the_forms_explain_every_field():
    for button in (promotion.promote, promotion.reject, promotion.rollback):
        fields = button.parameters.properties.values()
        assert all(field["description"] for field in fields) and button.description
