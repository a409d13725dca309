"""What a living stream keeps between arrivals: its steps, each with what it was made of and what the gate said.

The ledger `living-<name>` of the store names one stored record per step, so that the n-th arrival writes as little as
the first. A step that was begun stays the one to be finished, whatever arrives while it runs or after it was killed.
"""

from functools import lru_cache
from pathlib import Path

from pydantic import Field

from data_catalog import ledger, store
from data_catalog.arrivals import Arrival
from data_catalog.eval_sets import EvalSet
from data_catalog.places import store_root
from data_catalog.promotions import Promotion, entries, live_in
from data_catalog.refs import Spec
from data_catalog.stream import StreamPlan
from data_catalog.versions import Versioned
from models.checkpoints import CheckpointRef
from models.evaluation.record import StepRecord
from models.evaluation.scores import EvalReport, StepScores
from models.gate import Verdict
from models.merging.temporal import History
from models.train import Expert


class BegunStep(Spec):
    """A step whose data are chosen; `prepared` is the digest of everything else that is shared by all who score it."""

    step: int = Field(ge=0)
    arrival: Arrival
    prepared: str


class LivingStep(Versioned):
    """A finished step of a living stream."""

    step: int = Field(ge=0)
    arrival: Arrival
    plan: StreamPlan  # of the stream until this step
    config: str  # digest of the YAML it ran under
    follows: int  # number of the promotion whose weights it started from
    started_from: str  # digest of these
    expert: Expert
    candidate: CheckpointRef
    history: History  # what a step that starts from the candidate may merge with
    record: StepRecord
    live: EvalReport  # the scores of the weights it started from, on the same images
    live_summary: StepScores
    first: EvalReport  # those of the weights the stream began with
    first_summary: StepScores
    eval_sets: tuple[EvalSet, ...]
    adaptation: tuple[str, ...]
    retention: tuple[str, ...]
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    verdict: Verdict
    verdict_digest: str


def begun(stream: str) -> BegunStep | None:
    """The step that is to be finished before another begins, None if there is none."""
    open_step = None
    for entry in ledger.entries(_name(stream)):
        event = entry.pop("event")
        open_step = BegunStep(**entry) if event == "begun" else None
    return open_step


def begin(stream: str, step: BegunStep) -> None:
    """Make `step` the one to be finished; raises ValueError unless it is the next and no other one is open."""

    def after(found: list[dict]) -> list[dict]:
        done = [entry for entry in found if entry["event"] == "done"]
        if step.step != len(done) or (found and found[-1]["event"] == "begun"):
            raise ValueError(f"{stream}: step {step.step} cannot begin now: another run is at work; run it again later")
        return [{"event": "begun", **step.model_dump(mode="json")}]

    ledger.extend(_name(stream), after)


def give_up(stream: str, reason: str) -> BegunStep | None:
    """Give the open step up, so that the next run chooses its data anew; None if none is open."""
    if (open_step := begun(stream)) is None:
        return None
    ledger.extend(_name(stream), lambda found: [{"event": "given_up", "step": open_step.step, "reason": reason}])
    return open_step


def finish(stream: str, step: LivingStep) -> str:
    """Make the open step a finished one, at once or again; returns the digest of its record."""
    digest = store.write_bytes(step.model_dump_json().encode(), kind="living step", stream=stream, step=step.step)

    def after(found: list[dict]) -> list[dict]:
        if not found or found[-1]["event"] != "begun" or found[-1]["step"] != step.step:
            raise ValueError(f"{stream}: step {step.step} is not the open one; another run has finished it")
        return [{"event": "done", "step": step.step, "record": digest, "candidate": step.candidate.digest,
                 "arrival": step.arrival.model_dump(mode="json")}]  # fmt: skip

    ledger.extend(_name(stream), after)
    return digest


def finished(stream: str) -> list[str]:
    """The digests of the records of all finished steps, in stream order."""
    return [entry["record"] for entry in done(stream)]


def arrivals(stream: str) -> list[Arrival]:
    """What came at each finished step."""
    return [Arrival(**entry["arrival"]) for entry in done(stream)]


def step_at(stream: str, step: int) -> LivingStep:
    """A finished step; raises ValueError that says which there are."""
    digests = finished(stream)
    if not 0 <= step < len(digests):
        there = f"0 to {len(digests) - 1}" if digests else "none yet"
        raise ValueError(f"{stream} has no finished step {step}; there are {there}")
    return load_step(digests[step])


@lru_cache(maxsize=256)
def load_step(digest: str) -> LivingStep:
    """The record of a finished step; raises MissingArtifact."""
    return LivingStep.model_validate_json(store.read_bytes(digest))


def last_step(stream: str) -> LivingStep | None:
    """The newest finished step, None before the first."""
    digests = finished(stream)
    return load_step(digests[-1]) if digests else None


def behind(stream: str, live: Promotion) -> LivingStep | None:
    """The step whose candidate is live; None for the weights the stream began with."""
    return None if live.step is None else step_at(stream, live.step)


def undecided(stream: str) -> list[int]:
    """The steps that the gate held and nobody has decided about, oldest first."""
    known = {e.step for e in entries(stream) if e.deed in ("promote", "reject")}
    return [entry["step"] for entry in done(stream) if entry["step"] not in known]


def live_now(stream: str) -> Promotion:
    """The entry of the live weights; raises ValueError for a stream that never ran."""
    return live_of(stream, entries(stream))


def live_of(stream: str, history: list[Promotion]) -> Promotion:
    """As `live_now`, for entries that were read already."""
    if (found := live_in(history)) is None:
        raise ValueError(f"no living stream {stream!r} has run in this store; start it with `evergreen live`")
    return found


def begun_streams() -> list[str]:
    """The names of all streams that have begun a step in this store."""
    return ledger.names(_name(""))


def file_of(stream: str, name: str) -> Path:
    """A file of a stream beside its ledgers: its lock, or what its runs remember. Losing one loses no decision."""
    return store_root() / "living" / f"{stream}.{name}"


def done(stream: str) -> list[dict]:
    """What the ledger says of each finished step, in stream order."""
    return [entry for entry in ledger.entries(_name(stream)) if entry["event"] == "done"]


def _name(stream: str) -> str:
    return f"living-{stream}"
