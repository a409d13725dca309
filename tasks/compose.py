"""From datasets and captions to the stream, its steps and the evaluation sets."""

from data_catalog import arrivals as arriving
from data_catalog import eval_sets, stream, subsets, validation
from data_catalog.arrivals import Arrival
from data_catalog.buffers import AnyBuffer
from data_catalog.buffers.unlimited import Unlimited
from data_catalog.captions import CaptionPolicy, CaptionRef, CaptionScores
from data_catalog.concept_scores import AnyScore, ConceptScores
from data_catalog.cutting import Cut
from data_catalog.eval_sets import EvalSet
from data_catalog.exclusions import Exclusions
from data_catalog.mixture import Mixture
from data_catalog.orderings import AnyOrdering
from data_catalog.pools import AnyPool
from data_catalog.pools.uniform import Uniform
from data_catalog.shards import DatasetRef
from data_catalog.stream import StepPlan, StreamPlan
from data_catalog.subsets import SubsetRef
from data_catalog.validation import Validation
from models import concept_scores as scoring
from models.checkpoints import CheckpointRef
from tasks.caching import cached
from tasks.progress import progress_by_label


@cached(revision=2, label="score concepts")
def score_concepts(
    checkpoint: CheckpointRef,
    datasets: list[DatasetRef],
    score: AnyScore,
    captions: list[CaptionRef],
    reference: list[DatasetRef],
    seed: int,
    policy: CaptionPolicy,
    caption_scores: list[CaptionScores],
    exclusions: list[Exclusions],
) -> ConceptScores:
    """What an ordering needs to know of the concepts of `datasets`; `captions`: theirs and those of the reference."""
    with progress_by_label() as progress:
        return scoring.score_concepts(
            checkpoint,
            datasets,
            score,
            captions,
            reference,
            seed,
            policy,
            caption_scores,
            progress,
            exclusions=exclusions,
        )


@cached(revision=2, ignore=("ordering", "purpose"), label="compose {purpose}")
def compose_stream(
    datasets: list[DatasetRef],
    captions: list[CaptionRef],
    ordering: AnyOrdering,
    ordering_identity: str,
    steps: int | None,
    seed: int,
    pretraining: list[str],
    policy: CaptionPolicy = CaptionPolicy(),  # noqa: B008 frozen
    caption_scores: tuple[CaptionScores, ...] = (),
    concept_scores: ConceptScores | None = None,
    exclusions: tuple[Exclusions, ...] = (),
    cut: Cut = "equal",
    purpose: str = "stream",
) -> StreamPlan:
    """Order the concepts and cut them into steps; `ordering_identity` is what `ordering.identity()` says."""
    return stream.compose_stream(
        datasets, captions, ordering, steps, seed, pretraining, policy=policy, caption_scores=caption_scores,
        concept_scores=concept_scores, exclusions=exclusions, cut=cut,
    )  # fmt: skip


@cached(revision=1, label="find what arrived")
def find_arrival(datasets: list[DatasetRef], earlier: list[Arrival], exclusions: list[Exclusions]) -> Arrival | None:
    """The training samples that have come since the last of the `earlier` arrivals."""
    return arriving.find_arrival(datasets, earlier, exclusions)


@cached(revision=1, label="compose living stream")
def compose_living(
    datasets: list[DatasetRef],
    captions: list[CaptionRef],
    arrivals: list[Arrival],
    pretraining: list[str],
    policy: CaptionPolicy,
    caption_scores: tuple[CaptionScores, ...],
    exclusions: list[Exclusions],
) -> StreamPlan:
    """The stream whose steps are the arrivals so far."""
    return arriving.compose_living(datasets, captions, arrivals, pretraining, policy, caption_scores, exclusions)


@cached(revision=2, label="compose {recipe} step {step}", ignore=("recipe",))
def compose_step(
    plan: StreamPlan,
    step: int,
    mixture: Mixture,
    batch_size: int,
    iterations: int,
    seed: int,
    recipe: str,
    buffer: AnyBuffer = Unlimited(),  # noqa: B008 frozen
    pool: AnyPool = Uniform(),  # noqa: B008 frozen
) -> StepPlan:
    """Draw everything one step sees."""
    return stream.compose_step(plan, step, mixture, batch_size, iterations, seed, buffer, pool)


@cached(revision=1, label="evaluation set {dataset.name}")
def compose_eval_set(dataset: DatasetRef, split: str, leaked: Exclusions | None = None) -> EvalSet:
    """The images of one split with the texts they are scored against; `leaked`: those that were trained on."""
    return eval_sets.compose_eval_set(dataset, split, leaked)


@cached(revision=1, label="subset of {dataset.name}")
def compose_subset(dataset: DatasetRef, split: str, share: float, seed: int) -> SubsetRef:
    """The positions of a fixed subset of one split."""
    return subsets.compose_subset(dataset, split, share, seed)


@cached(revision=1, label="chosen evaluation set {dataset.name}")
def compose_chosen_set(
    dataset: DatasetRef,
    split: str,
    leaked: Exclusions | None,
    subset: SubsetRef | None,
    only_clean: bool,
    templates: tuple[str, ...],
) -> EvalSet:
    """Chosen images of one split, or all of them with other prompts than the dataset's own."""
    return eval_sets.compose_chosen_set(dataset, split, leaked, subset, only_clean, templates)


@cached(revision=1, label="hold out validation images")
def hold_out(datasets: list[DatasetRef], spec: Validation) -> Exclusions:
    """The training images that are kept to choose by."""
    return validation.hold_out(datasets, spec)


@cached(revision=1, label="validation set {dataset.name}")
def compose_validation_set(dataset: DatasetRef, spec: Validation, exclusions: list[Exclusions]) -> EvalSet:
    """The validation images of one dataset with the texts they are scored against."""
    return validation.compose_validation_set(dataset, spec, exclusions)


@cached(revision=1, label="validation set {dataset.name} with other prompts")
def compose_prompted_validation_set(
    dataset: DatasetRef, spec: Validation, exclusions: list[Exclusions], templates: tuple[str, ...]
) -> EvalSet:
    """The validation images of one dataset with other prompts than its own."""
    return validation.compose_validation_set(dataset, spec, exclusions, templates)


@cached(revision=1, label="images to probe {name} with")
def compose_probe_set(dataset: DatasetRef, name: str, exclusions: list[Exclusions]) -> EvalSet:
    """The training images that linear probes of the set `name` are fitted to."""
    return eval_sets.compose_probe_set(dataset, name, exclusions)
