"""What was entered in the catalog, kept in the store: enough to make a lost catalog again."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from data_catalog import ledger
from data_catalog.caption_rows import CaptionRef, CaptionScores
from data_catalog.duplicates import DuplicateGroups
from data_catalog.exclusions import Exclusions
from data_catalog.refs import Spec
from data_catalog.shards import DatasetRef
from data_catalog.stream import StreamPlan

LEDGER = "recorded"


class TrainedStep(Spec):
    """One step of one recipe of a stream: the data it saw and the checkpoints it made, by digest."""

    recipe: str
    step: int
    step_plan: str
    checkpoint: str  # the expert
    deployed: str | None = None  # the weights after the merge, None if nobody asked


class RecordedStream(Spec):
    """A composed stream under its name, with every step that was trained on it, by recipe and step."""

    name: str
    plan: StreamPlan
    steps: tuple[TrainedStep, ...] = ()
    exclusions: tuple[Exclusions, ...] = ()  # what it was planned without


class RecordedStep(Spec):
    """One step of a stream without an end; each has an entry of its own, so that the n-th costs what the first did."""

    name: str  # of the stream
    step: TrainedStep
    arrival: str  # digest of the table of the samples that came with it
    plan: str  # digest of the plan of the stream until this step
    steps: int  # so many are in it
    pretraining_samples: int
    starts: tuple[TrainedStep, ...] = ()  # of the first step: updates that led to the weights the stream began with


Fact = DatasetRef | CaptionRef | CaptionScores | DuplicateGroups | RecordedStream | RecordedStep
TYPES: dict[str, type[Fact]] = {
    "samples": DatasetRef,
    "captions": CaptionRef,
    "scores": CaptionScores,
    "duplicates": DuplicateGroups,
    "stream": RecordedStream,
    "step": RecordedStep,
}
What = Literal["samples", "captions", "scores", "duplicates", "stream", "step"]


def what(fact: Fact) -> What:
    """The kind of a fact in one word."""
    return next(word for word, kind in TYPES.items() if isinstance(fact, kind))


def remember(facts: Iterable[Fact]) -> int:
    """Keep facts that do not stand already; how many were new."""
    dumped = [(what(fact), getattr(fact, "name", ""), fact.model_dump(mode="json")) for fact in facts]

    def fresh(past: list[dict]) -> list[dict]:
        standing = _standing(past)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return [
            {"what": word, "name": name, "fact": fact, "time": now}
            for word, name, fact in dumped
            if standing.get(_key(word, name, fact)) != fact
        ]

    return len(ledger.extend(LEDGER, fresh))


def standing() -> list[tuple[What, dict]]:
    """What the catalog should hold, as (kind, fact): the last version of a dataset or stream, every version else."""
    return [(key[0], fact) for key, fact in _standing(ledger.entries(LEDGER)).items()]


def _standing(entries: list[dict]) -> dict[tuple, dict]:
    found: dict[tuple, dict] = {}
    for entry in entries:
        key = _key(entry["what"], entry["name"], entry["fact"])
        found.pop(key, None)  # the last word keeps its place in time
        found[key] = entry["fact"]
    return found


def _key(word: What, name: str, fact: dict) -> tuple:
    """Under which a later fact takes the place of an earlier one."""
    if word == "step":
        return word, name, fact["step"]["recipe"], fact["step"]["step"]
    return (word, name) if word in ("samples", "stream") else (word, name, fact["digest"])
