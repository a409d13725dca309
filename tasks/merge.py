"""From experts to the weights that are deployed."""

from models.checkpoints import CheckpointRef
from models.merging import AnyTechnique, temporal
from tasks.caching import cached


@cached(revision=1, label="merge {recipe} step {step}", ignore=("recipe", "step"))
def merge_weights(
    base: CheckpointRef, picks: list[CheckpointRef], technique: AnyTechnique, recipe: str, step: int
) -> CheckpointRef:
    """Combine `picks` around `base` and store the result."""
    return temporal.merge(base, picks, technique)
