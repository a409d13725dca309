"""A living stream: every arrival a step from the live weights, judged, and nothing twice."""

import json

import fsspec
import pytest

from data_catalog import alerts, ledger, lineage, promotions, store, store_copy
from data_catalog.places import store_root
from data_catalog.promotions import Promotion
from flows import living as living_flows
from flows.continual import continual_pretrain
from flows.evaluate import evaluate
from flows.experiment import parse
from flows.living import decide, living_stream
from flows.merge_search import merge_search
from models import living
from models.evaluation.record import find_record
from tests.flows.living_streams import OPEN, SHUT, living_config, put, raw_living

pytestmark = pytest.mark.usefixtures("prefect_backend")


@pytest.fixture
def inbox(tmp_path):
    put(tmp_path / "inbox", 0)
    return tmp_path / "inbox"


def killed_in(function, config):
    """A run that ends where `function` would begin."""

    def die(*_):
        raise RuntimeError("killed")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(living_flows, function, die)
        living_stream(config)


def gate(**changes):
    return {"living": {"gate": OPEN | changes}}


def test_another_machine_finishes_what_one_began(inbox, monkeypatch, tmp_path):
    config = living_config(inbox)
    monkeypatch.setenv("EVERGREEN_STORE", str(store_root()))  # what both share
    killed_in("live_step", config)
    monkeypatch.delenv("EVERGREEN_SOURCES")
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "other"))
    outcome = living_stream(config)
    assert (outcome.did, outcome.step, outcome.verdict) == ("step", 0, "promote")


def test_a_life_goes_on_where_its_store_was_moved_to(inbox, object_store, monkeypatch, tmp_path):
    config = living_config(inbox)
    first = living_stream(config)
    fsspec.filesystem("s3").mkdir("moved")
    store_copy.copy(store_copy.Place("s3://moved/store", "s3://moved/results"))
    for name, value in (("STORE", "s3://moved/store"), ("RESULTS", "s3://moved/results"), ("HOME", tmp_path / "other")):
        monkeypatch.setenv(f"EVERGREEN_{name}", str(value))
    assert living_stream(config).did == "nothing new" and living.live_now(config.name).checkpoint == first.live
    put(inbox, 1)
    assert living_stream(config).step == 1 and len(living.finished(config.name)) == 2


def test_a_life_of_arrivals(inbox):
    """One life, told in order, since each step costs seconds."""
    config = living_config(inbox)
    first = living_stream(config)
    assert (first.did, first.step, first.verdict, first.live_step) == ("step", 0, "promote", 0)
    assert living_stream(config).did == "nothing new"  # the same data twice are one step

    put(inbox, 1)
    refused = living_stream(living_config(inbox, living={"gate": SHUT}))
    assert (refused.step, refused.verdict, refused.live_step) == (1, "reject", 0)
    assert "floor of COLOURS" in refused.reasons[0]

    put(inbox, 2)
    held = living_stream(living_config(inbox, **gate(automatic=False)))
    assert (held.verdict, held.live_step, living.undecided("colours")) == ("hold", 0, [2])

    put(inbox, 3)
    passed = living_stream(config)
    step = living.step_at("colours", 3)
    assert (passed.live_step, step.started_from) == (3, living.step_at("colours", 0).candidate.digest)
    assert step.plan.steps[1].samples and step.record.draws["buffer"]  # refused data stay in the buffer
    assert [e.deed for e in promotions.entries("colours")] == ["start", "promote", "reject", "promote"]

    record = find_record("colours-seed0")
    assert [s.deployed for s in record.recipes[0].steps] == [
        living.step_at("colours", t).candidate.digest for t in range(4)
    ]
    assert record.stream == step.plan.steps

    scored = evaluate(config, "live")
    assert scored.report.checkpoint == passed.live and "COLOURS" in {score.dataset for score in scored.report.scores}

    told = [(alert.event, alert.step) for alert in alerts.last(9, "colours")]
    assert told == [("evergreen.step.rejected", 1), ("evergreen.step.held", 2)]
    drew = lineage.about("colours-seed0/main/3")  # steps one by one have the lineage of a stream with an end
    assert drew["checkpoint"] == step.record.expert and {"update", "buffer"} <= {row["pool"] for row in drew["pools"]}
    assert json.loads((store_root() / "living" / "colours.views.json").read_text()) == {"record": 4, "page": 4}

    live = promotions.live("colours")
    back = promotions.entries("colours")[1]
    promotions.add("colours", Promotion(**dict(back) | {"deed": "rollback", "returns_to": back.number, "by": "person"}),
                   follows=live.number)  # fmt: skip
    put(inbox, 4)
    after = living_stream(config)
    assert (
        living.step_at("colours", after.step).started_from == back.checkpoint
    )  # the next step starts from what is live
    assert len(living.step_at("colours", after.step).history.experts) == 2  # of the line that is live, not of all


def test_too_few_samples_wait_for_more_or_for_a_person_who_says_now(inbox):
    waiting = living_config(inbox, living={"gate": OPEN, "arrivals": {"least_samples": 1000}})
    outcome = living_stream(waiting)
    assert outcome.did == "waiting" and 0 < outcome.waiting < 1000 and living.finished("colours") == []
    assert living_stream(waiting, now=True).did == "step"


def test_a_step_that_was_begun_is_finished_before_another(inbox):
    config = living_config(inbox)
    killed_in("live_step", config)
    begun = living.begun("colours")
    put(inbox, 1)  # arrives during the step: waits for the next
    assert living_stream(config).step == 0
    assert living.arrivals("colours") == [begun.arrival]
    assert living_stream(config).step == 1


def test_afresh_takes_what_has_arrived_since_into_the_step(inbox):
    config = living_config(inbox)
    killed_in("live_step", config)
    small = living.begun("colours").arrival.samples["COLOURS"]
    put(inbox, 1)
    living_stream(config, afresh=True)
    assert living.arrivals("colours")[0].samples["COLOURS"] > small
    assert [entry["event"] for entry in ledger.entries("living-colours")] == ["begun", "given_up", "begun", "done"]


def test_a_verdict_that_a_kill_kept_from_the_ledger_is_carried_out_by_the_next_run(inbox):
    config = living_config(inbox)
    killed_in("decide", config)
    assert promotions.live("colours").deed == "start"  # judged, but not live
    outcome = living_stream(config)
    assert (outcome.did, outcome.live_step) == ("nothing new", 0)


def test_a_verdict_against_weights_that_are_no_longer_live_is_left_to_a_person(inbox):
    living_stream(living_config(inbox, **gate(automatic=False)))
    step = living.step_at("colours", 0)
    start = promotions.live("colours")
    promotions.add("colours", start.model_copy(update={"deed": "rollback", "returns_to": 0}), follows=0)
    approved = step.model_copy(update={"verdict": step.verdict.model_copy(update={"outcome": "promote"})})
    assert decide("colours", approved) is None
    assert promotions.live("colours").deed == "rollback"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipes": {"a": {}, "b": {}}}, "a living stream has one model and so one recipe, found a, b"),
        ({"recipes": {"a": {"merge": {"init": "ft", "deploy": "ema"}}}}, "found ft and ema"),
        ({"recipes": {"a": {"merge": {"init": "all", "deploy": "all", "technique": {"kind": "linear"}}}}}, "found all"),
        ({"recipes": {"a": {"update": {"schedule": {"kind": "whole_stream"}}}}}, "this stream has no last one"),
        ({"past_weights": [0.5]}, "`past_weights` are tried at the end"),
        ({"stream": {"ordering": {"kind": "random"}, "steps": 3}}, "take them out"),
        ({"living": {"gate": {"retention": 3}}}, "living.gate.retention"),
    ],
)
def test_what_makes_no_sense_without_an_end_is_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said.replace("`", ".")):
        parse(raw_living(tmp_path, **changes), "test")


def test_streams_without_an_end_are_not_run_as_experiments(inbox):
    for flow in (continual_pretrain, merge_search):
        with pytest.raises(ValueError, match="colours is a living stream, which has no last step"):
            flow(living_config(inbox))
    with pytest.raises(ValueError, match="no living stream 'colours' has run"):
        evaluate(living_config(inbox))
    assert promotions.entries("colours") == []


def test_a_gate_that_names_a_set_there_is_not_is_refused_before_anything_is_trained(inbox):
    with pytest.raises(ValueError, match=r"`gate.floors` names COLORS, which is not scored: COLOURS, SHAPES"):
        living_stream(living_config(inbox, **gate(floors={"COLORS": 0.5})))
    assert living.begun("colours") is None


def test_the_verdict_is_stored_where_the_ledger_says(inbox):
    living_stream(living_config(inbox))
    entry = promotions.live("colours")
    assert b'"outcome":"promote"' in store.read_bytes(entry.verdict)
