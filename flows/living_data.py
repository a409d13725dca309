"""From what has arrived to what a step of a living stream trains on and is scored on."""

from collections.abc import Sequence

from data_catalog import promotions
from data_catalog.arrivals import Arrival
from data_catalog.promotions import Promotion, weights_in_words
from flows.ingest import Ingested, ingest_sources
from flows.living_config import LivingConfig
from flows.preparing import (
    Material,
    Prepared,
    Twins,
    begin,
    caption_scores,
    captions_of,
    clean_sets,
    embedded_groups,
    gather,
    without,
)
from flows.scored_sets import compose_scored_sets, scored_datasets
from models import living
from models.checkpoints import CheckpointRef
from tasks.compose import compose_living, find_arrival
from tasks.duplicates import find_leaks
from tasks.record import record_findings


def ingest_arriving(config: LivingConfig) -> Ingested:
    """All data that is there now; where data arrives, having nothing yet is no error."""
    return ingest_sources(config.arriving, config.captioners, scored=config.evaluation.own)


def begun_with(config: LivingConfig, material: Material) -> CheckpointRef:
    """The weights the stream began with: those in its ledger, which it gets with the first step."""
    first = next(iter(promotions.entries(config.name)), None)
    if first is not None:
        return CheckpointRef(digest=first.checkpoint, backbone=first.backbone)
    start, _ = begin(config, material)
    told = Promotion(number=0, deed="start", checkpoint=start.digest, backbone=start.backbone, by="stream",
                     reason=weights_in_words(None), time="")  # fmt: skip
    promotions.add(config.name, told, follows=None)
    return start


def usable(config: LivingConfig, ingested: Ingested) -> tuple[Material, Twins | None, CheckpointRef]:
    """What may be trained on now, without removed samples, validation images and duplicates, and the first weights."""
    material, twins = gather(config, ingested)
    start = begun_with(config, material)
    if twins:
        groups = [*twins.groups, *embedded_groups(config, ingested, start)]
        record_findings(groups, [])
        twins = twins.model_copy(update={"groups": tuple(groups)})
        material = without(material, twins)
    return material, twins, start


def prepare_now(config: LivingConfig) -> Prepared:
    """What a step of all that is there now would be scored on, without beginning one.

    Raises ValueError for a stream that never ran.
    """
    living.live_now(config.name)
    ingested = ingest_arriving(config)
    material, twins, start = usable(config, ingested)
    earlier = living.arrivals(config.name)
    newest = new_samples(material, earlier)
    return prepare_step(config, ingested, material, twins, start, [*earlier, *([newest] if newest else [])])


def new_samples(material: Material, earlier: Sequence[Arrival]) -> Arrival | None:
    """What has arrived since the last step; None if nothing has."""
    return find_arrival(list(material.streamed), list(earlier), list(material.exclusions))


def prepare_step(
    config: LivingConfig,
    ingested: Ingested,
    material: Material,
    twins: Twins | None,
    start: CheckpointRef,
    arrivals: Sequence[Arrival],
) -> Prepared:
    """Everything that the step of the last of `arrivals` is made of and scored on."""
    scores = caption_scores(config, material, start) if config.needs_caption_scores() else ()
    plan = compose_living(
        material.training, captions_of(material), list(arrivals), list(config.pretraining), config.stream.captions,
        scores, list(material.exclusions),
    )  # fmt: skip
    arrived = sorted({name for step in plan.steps for name in step.datasets})
    adaptation, own = config.evaluation.adaptation or tuple(arrived), ingested.scored_only
    datasets = scored_datasets(config, ingested, adaptation)
    leaked = find_leaks(list(twins.groups), twins.policy, [plan]) if twins else None
    known = clean_sets(twins, material, datasets) if twins else set()
    scored = compose_scored_sets(config, datasets, adaptation, own, material.exclusions, leaked, known)
    return Prepared(start=start, plan=plan, exclusions=material.exclusions, adaptation=adaptation,
                    retention=config.evaluation.retention, scored=scored)  # fmt: skip
