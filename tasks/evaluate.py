"""From checkpoints to their scores."""

from data_catalog.eval_sets import EvalSet
from models.checkpoints import CheckpointRef
from models.evaluation import paper_profile, scoring
from models.evaluation.probe import Probe
from models.evaluation.scores import EvalReport, Score
from tasks.caching import cached
from tasks.progress import progress_of


@cached(revision=4, label="evaluate {label}", ignore=("label",))
def evaluate_checkpoint(
    checkpoint: CheckpointRef,
    eval_sets: list[EvalSet],
    label: str,
    probe: Probe | None = None,
    training: list[EvalSet] | None = None,
) -> EvalReport:
    """Score a checkpoint on every set in one pass over the images; `training`: what linear probes are fitted to."""
    with progress_of(f"evaluate {label}", samples=1) as progress:
        return scoring.evaluate_many([checkpoint], eval_sets, probe, training or (), progress=progress)[0]


@cached(revision=2, label="evaluate {label}, on whole sets too", ignore=("label",))
def evaluate_with_whole_sets(
    checkpoint: CheckpointRef,
    eval_sets: list[EvalSet],
    whole: list[EvalSet],
    label: str,
    probe: Probe | None = None,
    training: list[EvalSet] | None = None,
) -> list[EvalReport]:
    """As `evaluate_checkpoint`, on `eval_sets` and on `whole`, whose images they share: a report for each."""
    with progress_of(f"evaluate {label}", samples=1) as progress:
        return scoring.evaluate_lists(checkpoint, [eval_sets, whole], probe, training or (), progress=progress)


@cached(revision=2, label="evaluate {label}", ignore=("label",))
def evaluate_candidates(checkpoints: list[CheckpointRef], eval_sets: list[EvalSet], label: str) -> list[EvalReport]:
    """Score several checkpoints on every set in one pass over the images, which all of them share."""
    with progress_of(f"evaluate {label}", samples=1) as progress:
        return scoring.evaluate_many(checkpoints, eval_sets, progress=progress)


@cached(revision=1, label="evaluate {label} as upstream", ignore=("label",))
def evaluate_as_upstream(
    checkpoint: CheckpointRef, eval_sets: list[EvalSet], report: EvalReport, seed: int, share: float, label: str
) -> list[Score]:
    """What the benchmark's own evaluation, with its defects, would have said of whole sets that `report` scores."""
    return paper_profile.paper_scores(checkpoint, eval_sets, report, seed, share)
