"""What a whole experiment leaves behind: the stored record that reports are made from."""

from pathlib import Path

from pydantic import Field, ValidationError

from data_catalog import places, shared_files, store
from data_catalog.eval_sets import EvalSet
from data_catalog.refs import Ref, Spec
from data_catalog.stream import StepSummary
from data_catalog.versions import Versioned
from models.evaluation.scores import EvalReport, StepScores
from models.ledger import LedgerRow

ZERO_SHOT = "zero-shot"  # stands for a recipe where the weights before the first update are meant


class InsidePoint(Spec):
    """What the weights scored in the middle of an update."""

    iteration: int = Field(ge=1)  # iterations done
    samples: int = Field(ge=1)  # drawn until then
    scores: EvalReport


class UnscoredStep(Spec):
    """One step of one recipe: what it saw, what it made and what it cost."""

    step: int = Field(ge=0)
    expert: str  # digest of the weights straight after the update
    deployed: str  # digest of the weights after the merge
    step_plan: str  # digest
    curves: str  # digest of a table: iteration, loss, lr, logit_scale, gradient_norm, samples_per_second
    iterations: int = Field(ge=0)
    draws: dict[str, int]  # pool -> samples drawn
    mafs_planned: float | None = None
    mafs_used: float | None = None
    ledger: tuple[LedgerRow, ...] = ()  # of that, what each phase was given and took
    seconds: float = Field(ge=0)
    inside: tuple[InsidePoint, ...] = ()  # by iteration; they enter no summary


class StepRecord(UnscoredStep):
    """A step with what came of it."""

    scores: EvalReport
    summary: StepScores
    full: EvalReport | None = None  # on whole sets, where `scores` are on fixed subsets; of the last step


class MergePoint(Spec):
    """The last merge of a recipe tried with another weight on its past."""

    past_weight: float = Field(ge=0, le=1)
    summary: StepScores


class RecipeRecord(Spec):
    """One way of going through the stream."""

    name: str
    description: str
    steps: tuple[StepRecord, ...] = Field(min_length=1)  # those that were scored; the last step of the stream is
    merge_points: tuple[MergePoint, ...] = ()  # by rising weight on the past
    unscored: tuple[UnscoredStep, ...] = ()  # the others, where `evaluation.every` leaves some out

    @property
    def trained(self) -> tuple[UnscoredStep, ...]:
        """Every step, scored or not, in stream order."""
        return tuple(sorted((*self.steps, *self.unscored), key=lambda step: step.step))


class StageRecord(Spec):
    """One stage of the run: whether its work was done or re-used, and why."""

    stage: str
    label: str
    reused: bool
    reason: str
    seconds: float = Field(ge=0)
    ended: float | None = None  # seconds since 1970


class ExperimentRecord(Versioned):
    """Everything the report of an experiment is made from."""

    name: str
    seed: int
    config: str  # YAML
    adaptation: tuple[str, ...]
    retention: tuple[str, ...]
    zero_shot: EvalReport
    zero_shot_summary: StepScores
    pretrained: str  # digest
    recipes: tuple[RecipeRecord, ...]
    stream: tuple[StepSummary, ...]
    stages: tuple[StageRecord, ...]
    eval_sets: tuple[EvalSet, ...] = ()  # what `zero_shot` and the steps were scored on, image by image
    zero_shot_full: EvalReport | None = None  # on whole sets, where `zero_shot` is on fixed subsets
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # of evaluation sets, beside the two above
    weights: dict[str, float] = Field(default_factory=dict)  # of evaluation sets in the means; 1 where not named

    @property
    def datasets(self) -> tuple[str, ...]:
        """All sets of the two means, each once."""
        return tuple(dict.fromkeys((*self.adaptation, *self.retention)))


class StreamReport(Ref):
    """A stored ExperimentRecord with its two curves per recipe, one value per step."""

    accumulation: dict[str, tuple[float, ...]]
    retention: dict[str, tuple[float, ...]]


def store_record(record: ExperimentRecord) -> StreamReport:
    """Store `record` as JSON, make it the one `find_record` gives for its name, and return its reference."""
    digest = store.write_bytes(record.model_dump_json(indent=1).encode(), kind="experiment record", name=record.name)
    shared_files.write(_pointer(run_name(record.name, record.seed)), digest.encode())
    summaries = {recipe.name: [step.summary for step in recipe.steps] for recipe in record.recipes}
    return StreamReport(
        digest=digest,
        accumulation={name: tuple(s.knowledge_accumulation for s in steps) for name, steps in summaries.items()},
        retention={name: tuple(s.zero_shot_retention for s in steps) for name, steps in summaries.items()},
    )


def run_name(experiment: str, seed: int) -> str:
    """How one experiment with one seed is called in commands, file names and artifacts."""
    return f"{experiment}-seed{seed}"


def find_record(name: str) -> ExperimentRecord:
    """The last record under a name of `known_experiments`; raises ValueError if there is none."""
    return load_record(pointed_to(name))


def pointed_to(name: str) -> str:
    """The digest of the record that `find_record` gives for a name; raises ValueError if there is none."""
    if (found := shared_files.newest(_pointer(name))) is None:
        known = ", ".join(known_experiments()) or "none"
        raise ValueError(f"no experiment {name!r} has been finished in {places.home()}; known: {known}")
    return found.decode()


def known_experiments() -> list[str]:
    """The names of all finished experiments in this store."""
    return sorted(path.stem for path in shared_files.below(places.store_root() / "experiments", "*.ref"))


def load_record(digest: str) -> ExperimentRecord:
    """The record stored under `digest`; raises MissingArtifact, and ValueError for one of another version of this."""
    try:
        return ExperimentRecord.model_validate_json(store.read_bytes(digest))
    except ValidationError as error:
        fault = error.errors()[0]
        raise ValueError(
            f"{digest[:19]} is no record of an experiment that this version can read ("
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}): run the experiment again, which re-uses its stages"
        ) from error


def _pointer(name: str) -> Path:
    return places.store_root() / "experiments" / f"{name}.ref"
