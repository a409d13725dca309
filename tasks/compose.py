"""From datasets and captions to the stream, its steps and the evaluation sets."""

from data_catalog import eval_sets, stream
from data_catalog.captions import CaptionRef
from data_catalog.eval_sets import EvalSet
from data_catalog.mixture import Mixture
from data_catalog.orderings import AnyOrdering
from data_catalog.shards import DatasetRef
from data_catalog.stream import StepPlan, StreamPlan
from tasks.caching import cached


@cached(revision=1, ignore=("ordering",), label="compose stream")
def compose_stream(
    datasets: list[DatasetRef],
    captions: list[CaptionRef],
    ordering: AnyOrdering,
    ordering_identity: str,
    steps: int,
    seed: int,
    pretraining: list[str],
) -> StreamPlan:
    """Order the concepts and cut them into steps; `ordering_identity` is the ordering without the path of its file."""
    return stream.compose_stream(datasets, captions, ordering, steps, seed, pretraining)


@cached(revision=1, label="compose {recipe} step {step}", ignore=("recipe",))
def compose_step(
    plan: StreamPlan, step: int, mixture: Mixture, batch_size: int, iterations: int, seed: int, recipe: str
) -> StepPlan:
    """Draw everything one step sees."""
    return stream.compose_step(plan, step, mixture, batch_size, iterations, seed)


@cached(revision=1, label="evaluation set {dataset.name}")
def compose_eval_set(dataset: DatasetRef, split: str) -> EvalSet:
    """The images of one split with the texts they are scored against."""
    return eval_sets.compose_eval_set(dataset, split)
