"""The commands of a living stream: decisions are in the ledger first, views follow, and refusals say what to do."""

import contextlib
import json

import pytest

from data_catalog import promotions
from flows.living import LivingOutcome
from tasks import registry
from tasks.tracking import MLflowFailed
from tests.flows.living_streams import written
from tests.models.held_steps import begin_pets


@pytest.fixture
def registered(monkeypatch):
    """The stream `pets`; what the registry was asked to agree with, in order."""
    begin_pets(monkeypatch)
    asked = []
    monkeypatch.setattr("flows.telling.tell_of", lambda *_: [])  # has tests of its own, with real steps
    monkeypatch.setattr(registry, "agree", lambda stream: asked.append(promotions.live(stream).number))
    return asked


def test_a_decision_is_entered_then_shown(evergreen, registered):
    code, out, _ = evergreen("promote", "pets", "--step", 2, "--reason", "good")
    assert code == 0 and out.startswith("pets: entry 1, promote; live: step 2, sha256:")
    code, out, _ = evergreen("rollback", "pets", "--reason", "complaints", "--json")
    told = json.loads(out)
    assert (told["entry"]["returns_to"], told["live"]["number"]) == (0, 2)
    assert evergreen("reject", "pets", "--step", 1, "--reason", "bad")[0] == 0
    assert registered == [1, 2, 2]


def test_a_decision_entered_before_changes_nothing_and_says_so(evergreen, registered):
    evergreen("reject", "pets", "--step", 1, "--reason", "bad")
    _, out, _ = evergreen("reject", "pets", "--step", 1, "--reason", "bad")
    assert "entry 1, reject (entered before: nothing is changed)" in out
    assert len(promotions.entries("pets")) == 2


def test_a_refused_decision_is_bad_input_and_touches_no_view(evergreen, registered):
    evergreen("promote", "pets", "--step", 0, "--reason", "good")
    code, out, said = evergreen("promote", "pets", "--step", 1, "--reason", "good")
    assert (code, out) == (2, "") and "add `--replaces 1`" in said
    assert registered == [1]


def test_a_registry_that_cannot_be_reached_is_said_after_the_decision_holds(evergreen, registered, monkeypatch):
    def away(_):
        raise MLflowFailed("no answer")

    monkeypatch.setattr(registry, "agree", away)
    code, out, said = evergreen("promote", "pets", "--step", 2, "--reason", "good")
    assert code == 0 and "live: step 2" in out
    assert "`evergreen registry pets` brings it up: no answer" in said


@pytest.mark.parametrize("outcome, told", [
    ({"did": "nothing new"}, ["colours: nothing new", "live: the weights the stream began with, 0123"]),
    ({"did": "waiting", "waiting": 3}, ["3 new samples wait for more; `--now` takes a step all the same"]),
    ({"did": "step", "step": 7, "verdict": "hold", "reasons": ["may be worse"], "held": True, "live_step": 6},
     ["step 7: the gate says hold (held)", "may be worse", "evergreen promote colours --step 7", "live: step 6"]),
])  # fmt: skip
def test_a_run_says_what_it_did_and_what_is_live(evergreen, tmp_path, monkeypatch, outcome, told):
    found = LivingOutcome(stream="colours", live="0123", **outcome)
    monkeypatch.setattr("flows.server.api", lambda **_: contextlib.nullcontext())
    monkeypatch.setattr("flows.living.living_stream", lambda config, now, afresh: found)
    code, out, _ = evergreen("live", written(tmp_path / "living.yaml", tmp_path))
    assert code == 0 and all(each in out for each in told)
    code, out, _ = evergreen("live", tmp_path / "living.yaml", "--json")
    assert json.loads(out)["live"] == "0123"
