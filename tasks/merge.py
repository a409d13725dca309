"""From experts to the weights that are deployed."""

from models.checkpoints import CheckpointRef
from models.merging import AnyTechnique, temporal
from tasks.caching import cached


@cached(revision=2, label="merge {recipe} step {step}", ignore=("recipe", "step"))
def merge_weights(
    base: CheckpointRef,
    picks: list[CheckpointRef],
    technique: AnyTechnique,
    recipe: str,
    step: int,
    seed: int = 0,
    newest: int = -1,
    statistics: list[str] | None = None,
) -> CheckpointRef:
    """Combine `picks` around `base` and store the result; `statistics`: digests, of techniques that use them."""
    return temporal.merge(base, picks, technique, seed, newest, statistics or ())
