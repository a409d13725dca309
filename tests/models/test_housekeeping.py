"""Housekeeping: what is needed stays, what a rule lets go goes, and a run beside it notices nothing."""

import os
import time

import pytest

from data_catalog import in_use, ledger, places, promotions, store, trash
from data_catalog.arrivals import Arrival
from data_catalog.eval_sets import EvalSet
from data_catalog.promotions import Promotion
from data_catalog.retention import KeepSpec, Period
from data_catalog.store import MissingArtifact
from data_catalog.stream import StreamPlan
from models import living
from models.checkpoints import CheckpointRef
from models.evaluation import kept
from models.evaluation.record import StepRecord
from models.evaluation.scores import EvalReport, StepScores
from models.gate import Verdict
from models.housekeeping import keep_house
from models.living import BegunStep, LivingStep
from models.merging.temporal import History
from models.train import Expert
from models.updates.memory import MemoryRef

BARE = KeepSpec(experts=Period(newest=1), plans=Period(newest=1), step_plans=Period(newest=1), cache_days=0)


def put(text):
    return store.write_bytes(text.encode(), kind=text.split()[0])


def scores(checkpoint, text):
    return EvalReport(checkpoint=checkpoint, scores=(), outcomes={"A": put(f"outcomes {text}")})


class Life:
    """A living stream whose artifacts are words."""

    def __init__(self, name="pets"):
        self.name, self.backbone = name, put("backbone")
        self.start = CheckpointRef(digest=put("start"), backbone=self.backbone)
        self._decide("start", self.start, None)

    def step(self, deed="promote", memory=False, finished=True):
        """Take a step, of which `deed` is made; returns its candidate."""
        number, name = len(living.finished(self.name)), self.name
        arrival = Arrival(digest=put(f"arrival {name} {number}"), samples={"A": 1})
        eval_set = EvalSet(
            digest=put(f"set {name} {number}"), name="A", kind="classification", texts=put("texts"), samples=1
        )
        prepared = put(f'{{"prepared": ["{eval_set.digest}", "{number}"]}}')
        living.begin(name, BegunStep(step=number, arrival=arrival, prepared=prepared))
        if not finished:
            return prepared
        live, words = (
            promotions.live(name),
            StepScores(step=number, knowledge_accumulation=0, zero_shot_retention=0, geometric_mean=0),
        )
        expert = CheckpointRef(digest=put(f"expert {name} {number}"), backbone=self.backbone)
        candidate = CheckpointRef(digest=put(f"candidate {name} {number}"), backbone=self.backbone)
        remembered = MemoryRef(digest=put(f"memory {name} {number}"), method="ewc", anchor=expert) if memory else None
        verdict = Verdict(outcome="hold", reasons=(), checks=(), candidate=candidate.digest, live=live.checkpoint)
        record = StepRecord(
            step=number, expert=expert.digest, deployed=candidate.digest, step_plan=put(f"drawn {name} {number}"),
            curves=put(f"curves {name} {number}"), iterations=1, draws={}, seconds=1,
            scores=scores(candidate.digest, number), summary=words,
        )  # fmt: skip
        last = living.last_step(name)
        history = (last.history if last else History.start(self.start)).with_expert(expert, candidate)
        plan = StreamPlan(digest=put(f"plan {name} {number}"), steps=(), pretraining_samples=0)
        done = Expert(checkpoint=expert, curves=record.curves, memory=remembered, iterations=1)
        living.finish(name, LivingStep(
            step=number, arrival=arrival, plan=plan, config=put("config"), follows=live.number,
            started_from=live.checkpoint, expert=done, candidate=candidate, history=history, record=record,
            live=scores(live.checkpoint, "live"), live_summary=words, first=scores(self.start.digest, "first"),
            first_summary=words, eval_sets=(eval_set,), adaptation=("A",), retention=("A",), verdict=verdict,
            verdict_digest=put(f"verdict {verdict.model_dump_json()}"),
        ))  # fmt: skip
        if deed:
            self._decide(deed, candidate, number)
        return candidate.digest

    def _decide(self, deed, checkpoint, step):
        live = promotions.live(self.name)
        entry = Promotion(number=0, deed=deed, checkpoint=checkpoint.digest, backbone=self.backbone, step=step,
                          by="gate", reason="r", time="")  # fmt: skip
        promotions.add(self.name, entry, live and live.number)


@pytest.fixture
def life():
    return Life()


def words():
    """The first words of all that is stored, artifacts of one word aside."""
    texts = [store.path_of(digest).read_text() for digest in store.stored_digests()]
    return sorted(text for text in texts if " " in text and text[0] != "{" and not text.startswith("verdict"))


def stays(text):
    return store.path_of(store.digest_of(text.encode())).is_file()


def test_what_is_live_and_was_live_stays_and_what_never_was_goes(life):
    life.step("promote"), life.step("reject"), life.step("promote")
    keep_house({"pets": BARE})
    assert stays("start") and stays("candidate pets 0") and stays("candidate pets 2") and stays("expert pets 2")
    assert not stays("candidate pets 1") and not stays("expert pets 0") and not stays("expert pets 1")


def test_what_the_first_weights_were_trained_on_stays_known(life):
    store.write_bytes(b"start", made_by="update", init=store.digest_of(b"random"), step_plan=put("drawn before"))
    store.write_bytes(b"random", made_by="update", step_plan=put("drawn long before"))
    life.step()
    keep_house({"pets": BARE})
    assert stays("drawn before") and stays("drawn long before")


def test_every_rule_decides_about_its_own(life):
    for _ in range(3):
        life.step()
    keep_house({"pets": BARE.model_copy(update={"plans": Period(newest=2), "champions": Period(newest=1)})})
    found = words()
    assert [w for w in found if w.startswith("plan")] == ["plan pets 1", "plan pets 2"]
    assert [w for w in found if w.startswith("set")] == ["set pets 1", "set pets 2"]
    assert [w for w in found if w.startswith("drawn")] == ["drawn pets 2"]
    assert [w for w in found if w.startswith("candidate")] == ["candidate pets 1", "candidate pets 2"]
    assert [w for w in found if w.startswith("curves")] == ["curves pets 0", "curves pets 1", "curves pets 2"]


def test_a_held_step_waits_for_its_decision_however_long(life):
    life.step(deed=None, memory=True), life.step(), life.step()
    keep_house({"pets": BARE})
    assert stays("candidate pets 0") and stays("memory pets 0") and stays("expert pets 0")  # the memory's anchor


def test_a_step_that_is_being_made_keeps_what_it_was_prepared_with(life):
    life.step()
    prepared = life.step(finished=False)
    keep_house({"pets": BARE})
    assert store.is_intact(prepared) and stays("set pets 1") and stays("arrival pets 1")


def test_streams_that_are_not_asked_about_keep_everything(life):
    other = Life("birds")
    for _ in range(3):
        life.step(), other.step("reject")
    keep_house({"pets": BARE})
    assert {f"expert birds {n}" for n in range(3)} | {f"plan birds {n}" for n in range(3)} <= {*words()}
    assert not stays("expert pets 0")


def test_a_dry_run_deletes_nothing_and_tells_why(life):
    for _ in range(3):
        life.step()
    before, dry = [*store.stored_digests()], keep_house({"pets": BARE}, dry_run=True)
    assert [*store.stored_digests()] == before
    whys = {item.name: item.why for item in dry.going}
    assert whys[store.digest_of(b"expert pets 0")] == "weights of step 0 of pets: the newest 1"
    assert dry.reasons[store.digest_of(b"candidate pets 2")] == "live in pets (step 2)"
    assert {*whys, *dry.reasons} == {*before} and not whys.keys() & dry.reasons.keys()
    done = keep_house({"pets": BARE})
    assert [item.name for item in done.going] == [item.name for item in dry.going] and done.freed > 0
    assert keep_house({"pets": BARE}).going == ()


def test_caches_stay_for_their_days_and_results_keep_what_they_name(life):
    old, used = put("cache old"), put("cache used")
    young = put("cache young")
    for digest in (old, used):
        os.utime(store.path_of(digest), (time.time() - 40 * 86400,) * 2)
    record = places.results_root() / "make_cache-1"
    record.parent.mkdir(parents=True)
    record.write_text(used)
    keep_house({"pets": KeepSpec()})
    assert not store.is_intact(old) and store.is_intact(used) and store.is_intact(young)
    os.utime(record, (time.time() - 40 * 86400,) * 2)
    keep_house({"pets": KeepSpec()})
    assert not store.is_intact(used) and not record.exists()


def test_a_kept_fact_that_names_what_is_gone_is_a_miss(life):
    kept.keep("texts", {"tower": "t"}, vectors := put("vectors 1"))
    keep_house({"pets": BARE.model_copy(update={"cache_days": 1})})
    assert kept.find("texts", {"tower": "t"}, "texts") == vectors
    for path in (store.path_of(vectors), *(places.store_root() / "texts").glob("*/*")):
        os.utime(path, (1000, 1000))
    keep_house({"pets": BARE})
    assert kept.find("texts", {"tower": "t"}, "texts") is None


def test_files_that_mlflow_shares_stay(life, tmp_path):
    life.step("reject"), life.step()
    os.link(store.path_of(store.digest_of(b"candidate pets 0")), tmp_path / "model.safetensors")
    done = keep_house({"pets": BARE})
    assert stays("candidate pets 0")
    assert "outside of the store" in done.reasons[store.digest_of(b"candidate pets 0")]


def test_beside_a_run_nothing_is_lost_that_the_run_asks_for_or_names(life):
    life.step(), life.step(), life.step()
    with in_use.in_use():
        done = keep_house({"pets": BARE})
        assert done.beside_runs and done.in_trash > 0 and not stays("expert pets 0") and not stays("plan pets 0")
        assert store.read_bytes(store.digest_of(b"expert pets 0")) == b"expert pets 0"  # it asks for it
        life.step(), ledger.extend("recorded", lambda past: [named_by_the_catalog("plan pets 0")])  # it names it
        keep_house({"pets": BARE})
        assert stays("plan pets 0")
    keep_house({"pets": BARE})
    assert stays("plan pets 0") and trash.batches() == []
    with pytest.raises(MissingArtifact):
        store.locate(store.digest_of(b"plan pets 1"))


def named_by_the_catalog(text):
    fact = {"name": "A", "digest": store.digest_of(text.encode())}
    return {"what": "samples", "name": "A", "fact": fact, "time": ""}


def test_unfinished_states_and_half_written_files_go_when_they_are_old(life):
    state = places.store_root() / "unfinished" / "key" / "1.pt"
    litter = places.store_root() / "objects" / "ab" / ".half"
    for path in (state, litter):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")
    keep_house({"pets": BARE})
    assert state.exists() and litter.exists()
    for path in (state, litter):
        os.utime(path, (1000, 1000))
    with in_use.in_use():
        keep_house({"pets": BARE})
    assert state.exists() and litter.exists()  # a run may be at work on them
    assert keep_house({"pets": BARE}).freed >= 10
    assert not state.parent.exists() and not litter.exists()
