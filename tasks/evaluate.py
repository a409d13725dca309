"""From a checkpoint to its scores."""

from data_catalog.eval_sets import EvalSet
from models.checkpoints import CheckpointRef
from models.evaluation import scoring
from models.evaluation.scores import EvalReport
from tasks.caching import cached


@cached(revision=2, label="evaluate {label}", ignore=("label",))
def evaluate_checkpoint(checkpoint: CheckpointRef, eval_sets: list[EvalSet], label: str) -> EvalReport:
    """Score a checkpoint on every set in one pass over the images."""
    return scoring.evaluate(checkpoint, eval_sets)
