"""From ingested datasets to what all recipes of an experiment share: the first weights, the stream, what is scored."""

from collections.abc import Sequence

from data_catalog import decisions
from data_catalog.captions import CaptionRef, CaptionScores
from data_catalog.concept_scores import ConceptScores, ScoredBy
from data_catalog.duplicates import DuplicateGroups, DuplicateSearch, is_searched
from data_catalog.eval_sets import EvalSet
from data_catalog.exclusions import Exclusions
from data_catalog.mixture import Mixture
from data_catalog.orderings.random import Random
from data_catalog.refs import Spec
from data_catalog.seeds import seed_of
from data_catalog.shards import DatasetRef
from data_catalog.stream import StreamPlan
from flows.experiment import ExperimentConfig
from flows.ingest import Ingested, named
from models.checkpoints import CheckpointRef
from models.start import Pretrained
from tasks.caption import score_captions
from tasks.compose import compose_eval_set, compose_step, compose_stream, score_concepts
from tasks.duplicates import exclude_duplicates, find_duplicates, find_leaks, find_near_duplicates
from tasks.embed import embed_dataset
from tasks.record import record_findings
from tasks.update import import_weights, initialise_weights, update_weights


class Prepared(Spec):
    """What all recipes of an experiment share."""

    start: CheckpointRef
    plan: StreamPlan
    exclusions: tuple[Exclusions, ...]  # what the plan was made without, or marks
    eval_sets: tuple[EvalSet, ...]
    adaptation: tuple[str, ...]
    retention: tuple[str, ...]


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
    material, hashed = gather(experiment, ingested)
    start = begin(experiment, material)
    groups = [*hashed, *embedded_groups(experiment, ingested, start)]
    if groups:
        record_findings(groups, [])
    material = material.model_copy(update={"exclusions": left_out(experiment, material, groups)})
    plan = plan_stream(experiment, material, start)
    retention = experiment.evaluation.retention
    arriving = sorted({name for step in plan.steps for name in step.datasets})
    adaptation = experiment.evaluation.adaptation or tuple(arriving)
    scored = named(ingested, [*adaptation, *retention], "evaluation")
    leaked = None
    if experiment.stream.duplicates:
        names = [dataset.name for dataset in material.training]
        leaked = find_leaks(groups, experiment.stream.duplicates.policy, names, list(material.exclusions))
    waiting = [compose_eval_set.submit(dataset, "test", leaked) for dataset in scored]
    sets = tuple(future.result() for future in waiting)
    return Prepared(start=start, plan=plan, exclusions=material.exclusions, eval_sets=sets, adaptation=adaptation,
                    retention=retention)  # fmt: skip


def gather(experiment: ExperimentConfig, ingested: Ingested) -> tuple[Material, list[DuplicateGroups]]:
    """What the experiment trains on, and its pictures with equal bytes or close hashes."""
    held_out = {*experiment.pretraining, *experiment.evaluation.retention}
    streamed = tuple(dataset for name, dataset in ingested.datasets.items() if name not in held_out)
    pretraining = tuple(named(ingested, experiment.pretraining, "pretraining"))
    used = {dataset.digest for dataset in (*streamed, *pretraining)}
    captions = tuple(ref for ref in ingested.captions if ref.dataset in used)
    material = Material(streamed=streamed, pretraining=pretraining, captions=captions, exclusions=())
    duplicates = experiment.stream.duplicates
    groups = hashed_groups(list(ingested.datasets.values()), duplicates.search) if duplicates else []
    return material.model_copy(update={"exclusions": left_out(experiment, material, groups)}), groups


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
    waiting = [embed_dataset.submit(dataset, checkpoint, tuple(sorted(dataset.samples))) for dataset in chosen]
    vectors = [future.result() for future in waiting]
    return [find_near_duplicates(vectors, DuplicateSearch(kinds=("embedding",), similarity=search.similarity))]


def searched(datasets: Sequence[DatasetRef], search: DuplicateSearch) -> list[DatasetRef]:
    """The datasets that `search` looks at, by name; raises ValueError if it names one that is not there."""
    looked_at = is_searched(search, [dataset.name for dataset in datasets])
    return sorted((d for d, wanted in zip(datasets, looked_at, strict=True) if wanted), key=lambda d: d.name)


def embedded_groups(experiment: ExperimentConfig, ingested: Ingested, start: CheckpointRef) -> list[DuplicateGroups]:
    """Groups by embeddings of the first weights or of any others in the store, if the experiment asks for them."""
    if experiment.stream.duplicates is None:
        return []
    search = experiment.stream.duplicates.search
    by = start if search.checkpoint == "pretrained" else start.model_copy(update={"digest": search.checkpoint})
    return near_groups(list(ingested.datasets.values()), search, by)


def left_out(
    experiment: ExperimentConfig, material: Material, groups: Sequence[DuplicateGroups]
) -> tuple[Exclusions, ...]:
    """What later plans leave out by request, and what the policy on duplicates drops or marks."""
    removed = decisions.removals()
    found = [removed] if removed else []
    if groups:
        training = [dataset.name for dataset in material.training]
        scored = [*experiment.evaluation.retention, *(experiment.evaluation.adaptation or ())]
        evaluated = sorted({*scored, *(dataset.name for dataset in material.streamed)})
        policy = experiment.stream.duplicates.policy
        duplicated = exclude_duplicates(list(groups), policy, training, evaluated)
        found += [duplicated] if duplicated else []
    return tuple(found)


def begin(experiment: ExperimentConfig, material: Material) -> CheckpointRef:
    """The weights the stream starts from: somebody's, or a model trained here on the pretraining pool."""
    start = experiment.start
    if isinstance(start, Pretrained):
        return import_weights(start.identity(), start.model, start.weights)
    seed = seed_of(experiment.seed, "start")
    random = initialise_weights(start.identity(), start.model, seed)
    pool = material.model_copy(update={"streamed": ()})
    policy = experiment.stream.captions
    scores = caption_scores(experiment, pool, None) if policy.needs_scores() else ()
    plan = compose_stream(list(pool.pretraining), _captions(pool), Random(), Random().identity(), 1, experiment.seed,
                          list(experiment.pretraining), policy, scores, None, pool.exclusions)  # fmt: skip
    only_pretraining = Mixture(pretraining=1, update=0, buffer=0)
    data = compose_step(plan, 0, only_pretraining, start.batch_size, start.iterations, seed, "pretraining")
    return update_weights(random, data, start.update, seed, "pretraining").checkpoint


def plan_stream(experiment: ExperimentConfig, material: Material, start: CheckpointRef) -> StreamPlan:
    """Order the concepts, with the scores that ordering, captions and pools ask for, and cut them into steps."""
    spec = experiment.stream
    ordering = spec.ordering.located()
    scores = caption_scores(experiment, material, start) if experiment.needs_caption_scores() else ()
    ranked = concept_scores(experiment, material, start, scores)
    return compose_stream(material.training, _captions(material), ordering, ordering.identity(), spec.steps,
                          experiment.seed, list(experiment.pretraining), spec.captions, scores, ranked,
                          material.exclusions, spec.cut)  # fmt: skip


def caption_scores(
    experiment: ExperimentConfig, material: Material, start: CheckpointRef | None
) -> tuple[CaptionScores, ...]:
    """How well every text fits its image, to the checkpoint the stream names or to its first weights."""
    by = _scorer(experiment.stream.scored_by or "pretrained", start)
    vectors = {dataset.digest: embed_dataset.submit(dataset, by, ("train",)) for dataset in material.training}
    waiting = [
        score_captions.submit(dataset, ref, by, vectors[dataset.digest])
        for dataset in material.training
        for ref in (None, *_captions(material, dataset))  # None: the texts that came with the data
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
    known = {dataset.name: dataset for dataset in material.training}
    if unknown := sorted({*need.reference} - known.keys()):
        raise ValueError(f"`stream.ordering` names the reference {unknown}, expected some of {sorted(known)}")
    reference = [known[name] for name in need.reference] or list(material.pretraining)
    streamed = [dataset for dataset in material.streamed if dataset.name not in need.reference]
    return score_concepts(_scorer(need.checkpoint, start), streamed, need.score, _captions(material), reference,
                          experiment.seed, experiment.stream.captions, list(scores))  # fmt: skip


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


def _captions(material: Material, of: DatasetRef | None = None) -> list[CaptionRef]:
    return [ref for ref in material.captions if of is None or ref.dataset == of.digest]
