"""From an expert and the data of its step to the statistics that merges weigh its weights by."""

from data_catalog.stream import StepPlan
from models.checkpoints import CheckpointRef
from models.merging import statistics
from models.merging.statistics import StatisticsRef
from models.updates import UpdateSpec
from tasks.caching import cached


@cached(revision=1, label="{kind} statistics of {recipe} step {data.step}", ignore=("recipe",))
def collect_statistics(
    kind: str, checkpoint: CheckpointRef, data: StepPlan, spec: UpdateSpec, samples: int, seed: int, recipe: str
) -> StatisticsRef:
    """Take statistics of a checkpoint on data of a step; give `spec` as `what_measures` returns it."""
    return statistics.collect(kind, checkpoint, data, spec, samples, seed)


@cached(revision=1, label="merge statistics of {recipe} step {step}", ignore=("recipe", "step"))
def combine_statistics(
    parts: list[StatisticsRef], checkpoint: CheckpointRef, weights: list[float] | None, recipe: str, step: int
) -> StatisticsRef:
    """Those of the merge `checkpoint`, from those of what it was made of."""
    return statistics.combined(parts, checkpoint, weights)
