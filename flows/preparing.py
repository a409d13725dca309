"""From ingested datasets to what all recipes of an experiment share: the first weights, the stream, what is scored."""

from collections.abc import Sequence

from prefect import get_run_logger

from data_catalog import decisions
from data_catalog.captions import CaptionPolicy, CaptionRef, CaptionScores
from data_catalog.concept_scores import ConceptScores, NameEmbeddings, ScoredBy
from data_catalog.duplicates import DuplicateGroups, DuplicateSearch, is_searched
from data_catalog.eval_sets import EvalSet
from data_catalog.exclusions import Exclusions
from data_catalog.leaks import DuplicatePolicy, uncompared
from data_catalog.mixture import Mixture
from data_catalog.orderings.random import Random
from data_catalog.refs import Spec
from data_catalog.seeds import seed_of
from data_catalog.shards import DatasetRef
from data_catalog.stream import StreamPlan
from data_catalog.validation import HELD_OUT
from flows import pieces
from flows.chosen_weights import choose
from flows.experiment import ExperimentConfig
from flows.ingest import Ingested, named
from flows.scored_sets import ScoredSets, check_scored, compose_scored_sets, scored_datasets
from models.checkpoints import CheckpointRef
from models.start import Pretrained
from tasks.caption import score_captions
from tasks.compose import (
    compose_step,
    compose_stream,
    hold_out,
    score_concepts,
)
from tasks.duplicates import exclude_duplicates, find_duplicates, find_leaks, find_near_duplicates
from tasks.record import record_findings
from tasks.update import import_weights, initialise_weights, update_weights


class Prepared(Spec):
    """What all recipes of an experiment share."""

    start: CheckpointRef
    plan: StreamPlan
    exclusions: tuple[Exclusions, ...]  # what the plan was made without, or marks
    adaptation: tuple[str, ...]  # names of datasets; `scored.means` has those of what is scored of them
    retention: tuple[str, ...]
    scored: ScoredSets

    @property
    def eval_sets(self) -> tuple[EvalSet, ...]:
        """What is scored after a step."""
        return self.scored.after_steps

    @property
    def validation_sets(self) -> tuple[EvalSet, ...]:
        """Of training images that nothing was trained on, to choose by."""
        return self.scored.validation


class Twins(Spec):
    """Pictures that are there more than once, and what an experiment does about them."""

    groups: tuple[DuplicateGroups, ...]
    policy: DuplicatePolicy
    draft: StreamPlan  # what would be trained on without a policy
    evaluated: tuple[str, ...]  # datasets whose evaluation images count


class Material(Spec):
    """The datasets an experiment trains on, and what of them it must leave out or mark."""

    streamed: tuple[DatasetRef, ...]
    pretraining: tuple[DatasetRef, ...]
    captions: tuple[CaptionRef, ...]
    exclusions: tuple[Exclusions, ...]

    @property
    def training(self) -> list[DatasetRef]:
        """All of them."""
        return [*self.streamed, *self.pretraining]


def prepare(experiment: ExperimentConfig, ingested: Ingested) -> Prepared:
    """The weights to start from, the stream and the evaluation sets, without duplicates if the experiment says so."""
    material, twins = gather(experiment, ingested)
    expected = check_scored(experiment, ingested, [dataset.name for dataset in material.streamed])
    check_validation(experiment, material, expected)
    start, first_plans = begin(experiment, material)
    if twins:
        groups = [*twins.groups, *embedded_groups(experiment, ingested, start)]
        record_findings(groups, [])
        twins = twins.model_copy(update={"groups": tuple(groups)})
        material = without(material, twins)
    plan = plan_stream(experiment, material, start)
    arriving = sorted({name for step in plan.steps for name in step.datasets})
    adaptation, own = experiment.evaluation.adaptation or tuple(arriving), ingested.scored_only
    datasets = scored_datasets(experiment, ingested, adaptation)
    check_validation(experiment, material, datasets)
    leaked = find_leaks(list(twins.groups), twins.policy, [plan, *first_plans]) if twins else None
    known = clean_sets(twins, material, datasets) if twins else set()
    scored = compose_scored_sets(experiment, datasets, adaptation, own, material.exclusions, leaked, known)
    return Prepared(start=start, plan=plan, exclusions=material.exclusions, adaptation=adaptation,
                    retention=experiment.evaluation.retention, scored=scored)  # fmt: skip


def check_validation(experiment: ExperimentConfig, material: Material, scored: Sequence[DatasetRef]) -> None:
    """Raise ValueError if `evaluation.validation.without` names a dataset that is neither scored nor trained on."""
    spec = experiment.evaluation.validation
    known = {dataset.name for dataset in (*scored, *material.training)}
    if spec is not None and (unknown := sorted({*spec.without} - known)):
        raise ValueError(
            f"`evaluation.validation.without` names {', '.join(unknown)}, which is neither scored nor trained on"
        )


def gather(experiment: ExperimentConfig, ingested: Ingested) -> tuple[Material, Twins | None]:
    """What the experiment trains on, without removed samples and twins, as far as these are known before any weights.

    Twins: pictures with equal bytes or close hashes, if the experiment asks for them.
    """
    own = {*ingested.scored_only}
    if trained := sorted(own & {*experiment.pretraining}):
        raise ValueError(f"`pretraining` names {', '.join(trained)}, which `evaluation.own` says is only scored")
    held_out = {*experiment.pretraining, *experiment.evaluation.retention, *own}
    streamed = tuple(dataset for name, dataset in ingested.datasets.items() if name not in held_out)
    pretraining = tuple(named(ingested, experiment.pretraining, "pretraining"))
    used = {dataset.digest for dataset in (*streamed, *pretraining)}
    captions = tuple(ref for ref in ingested.captions if ref.dataset in used)
    removed = decisions.removals()
    material = Material(
        streamed=streamed, pretraining=pretraining, captions=captions, exclusions=(removed,) if removed else ()
    )
    duplicates = experiment.stream.duplicates
    if duplicates is None:
        return set_aside(experiment, material), None
    adaptation = experiment.evaluation.adaptation or (dataset.name for dataset in streamed)
    evaluated = [*experiment.evaluation.retention, *adaptation, *own]
    twins = Twins(
        groups=tuple(hashed_groups(list(ingested.datasets.values()), duplicates.search)),
        policy=duplicates.policy,
        draft=draft_plan(experiment, material),
        evaluated=tuple(sorted({*evaluated})),
    )
    return without(set_aside(experiment, material), twins), twins


def set_aside(experiment: ExperimentConfig, material: Material) -> Material:
    """The material without its validation images, if the experiment keeps any to choose by."""
    spec = experiment.evaluation.validation
    if spec is None:
        return material
    return material.model_copy(update={"exclusions": (*material.exclusions, hold_out(material.training, spec))})


def draft_plan(experiment: ExperimentConfig, material: Material) -> StreamPlan:
    """One step with all that the experiment would train on if it took no notice of duplicates.

    It needs no scores: an ordering by scores places every concept, as the random one does.
    """
    ordering = Random() if experiment.stream.ordering.needs() else experiment.stream.ordering.located()
    policy = experiment.stream.captions
    if policy.needs_scores():
        policy = CaptionPolicy(prefer=tuple(dict.fromkeys((*policy.kinds(), *policy.otherwise))))
    return compose_stream(
        material.training, captions_of(material), ordering, ordering.identity(), 1, experiment.seed,
        list(experiment.pretraining), policy, (), None, material.exclusions, "equal", "draft",
    )  # fmt: skip


def without(material: Material, twins: Twins) -> Material:
    """The material with what was removed or held out, and what the policy on duplicates drops or marks."""
    removed = tuple(some for some in material.exclusions if some.cause in (decisions.REMOVED, HELD_OUT))
    found = exclude_duplicates(list(twins.groups), twins.policy, twins.draft, list(twins.evaluated))
    return material.model_copy(update={"exclusions": (*removed, *([found] if found else []))})


def clean_sets(twins: Twins, material: Material, scored: Sequence[DatasetRef]) -> set[str]:
    """The sets whose images can be called clean; none, said in the log, if training images were never compared."""
    unknown = uncompared(twins.groups, material.training)
    if unknown:
        get_run_logger().warning(
            "no image is called clean: those of %s were compared with none; ingest them with check: decode, or search "
            "them by embedding",
            ", ".join(unknown),
        )
        return set()
    return {dataset.name for dataset in scored} - {*uncompared(twins.groups, scored)}


def hashed_groups(datasets: Sequence[DatasetRef], search: DuplicateSearch) -> list[DuplicateGroups]:
    """Exact and perceptual groups, as far as `search` asks for them."""
    hashed = tuple(kind for kind in search.kinds if kind != "embedding")
    if not hashed:
        return []
    # the search names no more than it uses, so that another threshold of embeddings re-runs its own stage alone
    alone = DuplicateSearch(kinds=hashed, perceptual_distance=search.perceptual_distance)
    return [find_duplicates(searched(datasets, search), alone)]


def near_groups(
    datasets: Sequence[DatasetRef], search: DuplicateSearch, checkpoint: CheckpointRef
) -> list[DuplicateGroups]:
    """Groups by the embeddings of `checkpoint`, if `search` asks for them."""
    if "embedding" not in search.kinds:
        return []
    chosen = searched(datasets, search)
    waiting = [pieces.embed(dataset, checkpoint, tuple(sorted(dataset.samples))) for dataset in chosen]
    vectors = [future.result() for future in waiting]
    return [find_near_duplicates(vectors, DuplicateSearch(kinds=("embedding",), similarity=search.similarity))]


def searched(datasets: Sequence[DatasetRef], search: DuplicateSearch) -> list[DatasetRef]:
    """The datasets that `search` looks at, by name; raises ValueError if it names one that is not there."""
    looked_at = is_searched(search, [dataset.name for dataset in datasets])
    return sorted((d for d, wanted in zip(datasets, looked_at, strict=True) if wanted), key=lambda d: d.name)


def embedded_groups(experiment: ExperimentConfig, ingested: Ingested, start: CheckpointRef) -> list[DuplicateGroups]:
    """Groups by the embeddings of a checkpoint, if the experiment asks for them."""
    search = experiment.stream.duplicates.search
    if "embedding" not in search.kinds:
        return []
    return near_groups(list(ingested.datasets.values()), search, choose(experiment, start, search.checkpoint))


def begin(experiment: ExperimentConfig, material: Material) -> tuple[CheckpointRef, list[StreamPlan]]:
    """The weights the stream starts from, and the plan they were trained on if that was done here.

    They are somebody's, or those of a model trained here on the pretraining pool.
    """
    start = experiment.start
    if isinstance(start, Pretrained):
        return import_weights(start.identity(), start.model, start.weights), []
    seed = seed_of(experiment.seed, "start")
    random = initialise_weights(start.identity(), start.model, seed)
    pool = material.model_copy(update={"streamed": ()})
    policy, ordering = experiment.stream.captions, Random()
    scores = caption_scores(experiment, pool, None) if policy.needs_scores() else ()
    plan = compose_stream(
        pool.training, captions_of(pool), ordering, ordering.identity(), 1, experiment.seed,
        list(experiment.pretraining), policy, scores, None, pool.exclusions, "equal", "pool",
    )  # fmt: skip
    only_pretraining = Mixture(pretraining=1, update=0, buffer=0)
    data = compose_step(plan, 0, only_pretraining, start.batch_size, start.iterations, seed, "pretraining")
    launch = experiment.execution.training
    return update_weights(random, data, start.update, seed, "pretraining", launch=launch).checkpoint, [plan]


def plan_stream(experiment: ExperimentConfig, material: Material, start: CheckpointRef) -> StreamPlan:
    """Order the concepts, with the scores that ordering, captions and pools ask for, and cut them into steps."""
    spec = experiment.stream
    ordering = spec.ordering.located()
    scores = caption_scores(experiment, material, start) if experiment.needs_caption_scores() else ()
    ranked = concept_scores(experiment, material, start, scores)
    return compose_stream(material.training, captions_of(material), ordering, ordering.identity(), spec.number,
                          experiment.seed, list(experiment.pretraining), spec.captions, scores, ranked,
                          material.exclusions, spec.cut)  # fmt: skip


def caption_scores(
    experiment: ExperimentConfig, material: Material, start: CheckpointRef | None
) -> tuple[CaptionScores, ...]:
    """How well every text fits its image, to the checkpoint the stream names or to its first weights."""
    by = _scorer(experiment.stream.scored_by or "pretrained", start)
    trained = [dataset for dataset in material.training if dataset.samples.get("train")]
    vectors = {dataset.digest: pieces.embed(dataset, by, ("train",)) for dataset in trained}
    waiting = [
        score_captions.submit(dataset, ref, by, vectors[dataset.digest])
        for dataset in trained
        for ref in (None, *captions_of(material, dataset))  # None: the texts that came with the data
    ]
    found = tuple(future.result() for future in waiting)
    record_findings([], list(found))
    return found


def concept_scores(
    experiment: ExperimentConfig, material: Material, start: CheckpointRef, scores: tuple[CaptionScores, ...]
) -> ConceptScores | None:
    """What the ordering needs to know of the concepts, if it needs anything that a model must say."""
    need = experiment.stream.ordering.needs()
    if need is None:
        return None
    by = _scorer(need.checkpoint, start)
    if isinstance(need.score, NameEmbeddings):  # of names alone: nothing else belongs to what they depend on
        asked = score_concepts.submit(by, list(material.streamed), need.score, [], [], 0, CaptionPolicy(), [],
                                      list(material.exclusions))  # fmt: skip
        return asked.result()
    known = {dataset.name: dataset for dataset in material.pretraining}
    if unknown := sorted({*need.reference} - known.keys()):
        raise ValueError(f"`stream.ordering` names the reference {unknown}, expected some of `pretraining`: {[*known]}")
    reference = [known[name] for name in need.reference] or list(material.pretraining)
    asked = score_concepts.submit(by, list(material.streamed), need.score, captions_of(material), reference,
                                  experiment.seed, experiment.stream.captions, list(scores),
                                  list(material.exclusions))  # fmt: skip
    return asked.result()


def _scorer(by: ScoredBy | str, start: CheckpointRef | None) -> CheckpointRef:
    if isinstance(by, ScoredBy):
        spec = Pretrained(model=by.model, weights=by.weights)
        return import_weights(spec.identity(), spec.model, spec.weights)
    if start is None:
        raise ValueError(
            "the captions of the pretraining pool must be scored before there are weights to score with: `start` "
            "trains from scratch; name other weights in `stream.scored_by`, or a caption policy without scores"
        )
    return start


def captions_of(material: Material, of: DatasetRef | None = None) -> list[CaptionRef]:
    """The captions of all training datasets, or of one."""
    wanted = {dataset.digest for dataset in (material.training if of is None else [of])}
    return [ref for ref in material.captions if ref.dataset in wanted]
