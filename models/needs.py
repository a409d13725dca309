"""What every stored artifact is there for: who names it, and which rule of retention lets it go.

Whatever is named by nobody, or only by what let it go, is `housekeeping`'s to delete.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from data_catalog import descent, ledger, promotions, recorded, shared_files, store
from data_catalog.places import results_root, store_root
from data_catalog.refs import Spec, digests_in
from data_catalog.retention import KeepSpec
from models import living
from models.evaluation.record import known_experiments, load_record, pointed_to
from models.living import LivingStep

WEIGHTS = "weights"
MARKS = {"backbone": WEIGHTS, "curves_of": "curves"}  # key of a manifest -> what it tells of
FACTS = ("texts", "tokens", "scores")  # folders of the store with facts that name artifacts


class Needs:
    """Why artifacts stay, and why others may go; the first reason given is the one that is told.

    `policies`: stream -> what it keeps; streams that are not in it keep everything.
    """

    def __init__(self, policies: dict[str, KeepSpec]):
        self.policies, self.now = policies, store.clock()
        self.cache_days = max((policy.cache_days for policy in policies.values()), default=KeepSpec().cache_days)
        self.why: dict[str, str] = {}
        self.let_go: dict[str, str] = {}
        for stream in known_streams():
            _StreamNeeds(self, stream, policies.get(stream)).collect()
        self._of_experiments()
        self._of_the_catalog()
        for digest in [*self.why]:
            if "backbone" in kinds(digest):  # its tokenizer is an artifact of its own
                self.need(_inside(digest), self.why[digest])
        self._of_results()

    def need(self, digests: Iterable[str], why: str) -> None:
        """Artifacts that stay."""
        for digest in digests:
            self.why.setdefault(digest, why)

    def release(self, digests: Iterable[str], why: str) -> None:
        """Artifacts that go unless somebody needs them."""
        for digest in digests:
            self.let_go.setdefault(digest, why)

    def is_young(self, seconds: float) -> bool:
        """Whether a cache of that age stays."""
        return seconds <= self.cache_days * 86400

    def _of_experiments(self) -> None:
        for name in known_experiments():
            digest = pointed_to(name)
            record = load_record(digest)
            self.need([digest], f"the report of {name}")
            if record.name not in self.policies:
                self.need(named(record), f"the experiment {name}")

    def _of_the_catalog(self) -> None:
        for what, fact in recorded.standing():
            stream = fact["name"].rpartition("-seed")[0] if what in ("stream", "step") else None
            if stream in self.policies:  # its steps have a rule of their own; what made the first weights has none
                fact = {"arrival": fact["arrival"], "starts": fact["starts"]} if what == "step" else {
                    "plan": fact["plan"], "exclusions": fact["exclusions"],
                    "before": [step["step_plan"] for step in fact["steps"] if step["step"] < 0],
                }  # fmt: skip
            self.need(digests_in(json.dumps(fact)), "the catalog")

    def _of_results(self) -> None:
        """Result records and kept facts that were used lately; not what a rule of retention has let go."""
        for path in result_files():
            if self.is_young(self.now - path.stat().st_mtime):
                found = digests_in(path.read_text())
                self.need(found - self.let_go.keys(), f"results that were used in the last {self.cache_days:g} days")


class _StreamNeeds:
    """What one living stream needs to go on, to go back and to be looked at."""

    def __init__(self, needs: Needs, stream: str, policy: KeepSpec | None):
        self.needs, self.stream, self.policy, self.now = needs, stream, policy, needs.now
        self.digests = living.finished(stream)
        self.steps = [living.load_step(digest) for digest in self.digests]

    def collect(self) -> None:
        """Tell `needs`."""
        need = self.needs.need
        need(self.digests, f"records of the steps of {self.stream}")
        need((arrival.digest for arrival in living.arrivals(self.stream)), f"what arrived in {self.stream}")
        if open_step := living.begun(self.stream):
            why = f"step {open_step.step} of {self.stream}, which is being made"
            need({open_step.prepared, open_step.arrival.digest, *_inside(open_step.prepared)}, why)
        if self.policy is None:
            need(named(*promotions.entries(self.stream), *self.steps), f"{self.stream}, which is not asked about")
            return
        self._champions()
        for step in living.undecided(self.stream):
            need(to_go_on(self.steps[step]), f"step {step} of {self.stream}, which waits for a decision")
        for rank, step in enumerate(reversed(self.steps)):
            self._step(step, rank)
        self.needs.release(_prepared(self.stream), f"preparations of finished steps of {self.stream}")

    def _champions(self) -> None:
        entries = promotions.entries(self.stream)
        verdicts = (entry.verdict for entry in entries if entry.verdict)
        self.needs.need({*verdicts, *(entry.backbone for entry in entries)}, f"the ledger of {self.stream}")
        self.needs.need(
            _trained_on(entries[0].checkpoint) if entries else (), f"lineage of what {self.stream} began with"
        )
        once = {entry.checkpoint: entry for entry in entries if entry.deed != "reject"}  # the last one of each
        for rank, entry in enumerate(sorted(once.values(), key=lambda entry: -entry.number)):
            where = "began with" if entry.step is None else f"step {entry.step}"
            needed = {entry.checkpoint} if entry.step is None else to_go_on(self.steps[entry.step])
            age = self.now - datetime.fromisoformat(entry.time).timestamp()
            if rank == 0:
                self.needs.need(needed, f"live in {self.stream} ({where})")
            elif entry.step is None:
                self.needs.need(needed, f"the weights {self.stream} began with")
            elif self.policy.champions.keeps(rank - 1, age):
                self.needs.need(needed, f"was live in {self.stream} ({where})")
            else:
                self.needs.release(needed, f"was live in {self.stream} ({where}): {self.policy.champions.spoken()}")

    def _step(self, step: LivingStep, rank: int) -> None:
        age = self.now - store.stat_of(self.digests[step.step]).modified
        parts, policy, where = _parts(step), self.policy, f"step {step.step} of {self.stream}"
        rules = {"weights": policy.experts, "snapshots": policy.snapshots, "plans": policy.plans,
                 "step plan": policy.step_plans}  # fmt: skip
        for part, rule in rules.items():
            tell = self.needs.need if rule.keeps(rank, age) else self.needs.release
            tell(parts[part], f"{part} of {where}: {rule.spoken()}")
        others = named(step) - _weights(step) - set().union(*parts.values())
        self.needs.need(others, f"scores and curves of {self.stream}")


def result_files() -> list[Path]:
    """Result records of cached tasks, and kept facts of the store."""
    kept = [path for folder in FACTS for path in shared_files.below(store_root() / folder, "*/*.json")]
    return [*shared_files.below(results_root(), "*-*"), *kept]


def known_streams() -> list[str]:
    """Every living stream that has begun a step or has weights."""
    return sorted({*promotions.known_streams(), *living.begun_streams()})


def named(*values: Spec) -> set[str]:
    """Every digest that values name."""
    return set().union(*(digests_in(value.model_dump_json()) for value in values))


def _parts(step: LivingStep) -> dict[str, set[str]]:
    """What of a step has a rule of retention."""
    statistics = {kept.digest for kept in step.history.statistics.values()}
    sets = {digest for scored in step.eval_sets for digest in (scored.digest, scored.texts, scored.classnames)}
    return {
        "weights": {step.expert.checkpoint.digest, *to_go_on(step), *statistics},
        "snapshots": {snapshot.checkpoint.digest for snapshot in step.expert.snapshots},
        "plans": {step.plan.digest, *sets} - {None},
        "step plan": {step.record.step_plan},
    }


def to_go_on(step: LivingStep) -> set[str]:
    """The weights that a step proposed, and what a later step that starts from them needs."""
    found, memory = {step.candidate.digest, step.candidate.backbone}, step.expert.memory
    if memory:
        found |= {memory.digest, memory.anchor.digest}
    statistics = step.history.statistics.get(step.candidate.digest)
    return found | ({statistics.digest} if statistics else set())


def _trained_on(checkpoint: str) -> set[str]:
    """The plans of all updates that a checkpoint descends from."""
    origins = (origin for digest in descent.family([checkpoint]) for origin in store.origins(digest))
    return {origin["step_plan"] for origin in origins if origin.get("step_plan")}


def _weights(step: LivingStep) -> set[str]:
    """Weights of other steps and of this one that its record only names."""
    reports = (step.live, step.first, step.record.scores, *(point.scores for point in step.record.inside))
    checkpoints = {
        *step.history.experts, step.history.running, step.history.pretrained, step.candidate, step.expert.checkpoint,
        *(kept.checkpoint for kept in step.history.statistics.values()),
    } - {None}  # fmt: skip
    digests = {checkpoint.digest for checkpoint in checkpoints} | {report.checkpoint for report in reports}
    return digests | {step.started_from, step.record.expert, step.record.deployed,
                      *(kept.digest for kept in step.history.statistics.values())}  # fmt: skip


def _prepared(stream: str) -> set[str]:
    return {entry["prepared"] for entry in ledger.entries(f"living-{stream}") if entry["event"] == "begun"}


def _inside(digest: str) -> set[str]:
    """The digests in an artifact that is itself a document; none if it is gone."""
    return digests_in((store.peek(digest) or b"").decode(errors="replace"))


def kinds(digest: str) -> set[str]:
    """What the manifests of an artifact call it."""
    origins, words = store.origins(digest), ("kind", "stage", "made_by")
    found = {str(origin[word]) for origin in origins for word in words if word in origin}
    found |= {name for mark, name in MARKS.items() if any(mark in origin for origin in origins)}
    return found
