"""Fill the catalog only: find what the sources hold, index it, caption it, record it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from prefect import flow
from pydantic import Field, ValidationError

from data_catalog.captions import CaptionRef, Template
from data_catalog.refs import Spec
from data_catalog.registry import first_clash
from data_catalog.shards import DatasetRef
from data_catalog.sources import AnySource
from flows import experiment, pieces
from flows.engines import carried_out_by
from flows.environment import open_home
from flows.experiment import ExecutionSpec, ExperimentConfig
from models.captioning import AnyCaptioner
from tasks.ingest import ingest_dataset, record_in_catalog
from tasks.journal import journal

log = logging.getLogger(__name__)


class IngestConfig(Spec):
    """What fills the catalog: the part of an experiment that is about data."""

    sources: tuple[AnySource, ...] = Field(min_length=1)  # where the data lies
    captioners: tuple[AnyCaptioner, ...] = (Template(),)  # what writes texts about its images
    execution: ExecutionSpec = Field(ExecutionSpec(), description="where it computes, which decides no result")


class Ingested(Spec):
    """Datasets by name, what captioners wrote about them, and whether the catalog had to be written."""

    datasets: dict[str, DatasetRef]
    captions: tuple[CaptionRef, ...]  # one of each captioner for each dataset
    is_news: bool
    scored_only: tuple[str, ...] = ()  # datasets that nothing is trained on, by the source they come from


GivenData = Annotated[str | IngestConfig | ExperimentConfig, Field(examples=["flows/configs/demo.yaml"])]


@flow(name="ingest")
def ingest(config: GivenData, retry: bool = False) -> Ingested:
    """Ingest and caption sources; on unchanged data nothing is written.

    Args:
        config: The path of a YAML file with sources, or of an experiment; or either itself.
        retry: Look again at everything that was refused, not only at what changed.
    """
    open_home()  # a worker's process has no command before it that did
    given = load(config) if isinstance(config, str) else config
    scored = given.evaluation.own if isinstance(given, ExperimentConfig) else ()
    with carried_out_by(given.execution.stages), journal():
        return ingest_sources(given.sources, given.captioners, retry, scored)


def load(path: str | Path) -> IngestConfig | ExperimentConfig:
    """The sources in a YAML file, which may be those of a whole experiment; raises ValueError that names the file."""
    raw = experiment.read_yaml(path)
    if not set(raw) <= set(IngestConfig.model_fields):
        return experiment.parse(raw, str(path))
    try:
        return IngestConfig.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{path} is not a valid list of sources:\n" + experiment.problems(error)) from error


def ingest_experiment(given: ExperimentConfig) -> Ingested:
    """All data of an experiment: what it trains on, and what it is scored on alone."""
    return ingest_sources(given.sources, given.captioners, scored=given.evaluation.own)


def ingest_sources(
    sources: Sequence[AnySource],
    captioners: Sequence[AnyCaptioner],
    retry: bool = False,
    scored: Sequence[AnySource] = (),
) -> Ingested:
    """Every dataset of every source, indexed, captioned and in the catalog; `scored`: sources that need no captions."""
    if clash := first_clash(source.name for source in (*sources, *scored)):
        raise ValueError(f"sources {clash} have one name, upper and lower case aside; give each its own `name`")
    found = [(raw, source) for source in (*sources, *scored) for raw in pieces.scan(source, retry)]
    by_name: dict[str, str] = {}
    for raw, source in found:
        other = by_name.setdefault(raw.dataset.casefold(), source.name)
        if other != source.name:
            raise ValueError(
                f"dataset {raw.dataset} is in the sources {other!r} and {source.name!r}, upper and lower case aside; "
                "leave it out of one with `datasets`, or rename it there"
            )
    indexed = [ingest_dataset.submit(raw, source) for raw, source in found]
    captioned = [
        pieces.caption(dataset.result(), captioner)
        for dataset, (_, source) in zip(indexed, found, strict=True)
        for captioner in (captioners if source in sources else ())
    ]
    datasets, captions = [future.result() for future in indexed], [future.result() for future in captioned]
    is_news = record_in_catalog(datasets, captions)
    arriving = {raw.dataset for raw, source in found if source.may_be_empty()}
    empty = sorted(dataset.name for dataset in datasets if not dataset.samples)
    if never := [name for name in empty if name not in arriving]:
        raise ValueError(
            f"no sample of {', '.join(never)} is usable; the catalog has the others: `evergreen quarantine list` says "
            "why each was refused; repair the data, or release what may be"
        )
    for name in empty:
        log.warning("nothing that arrived of %s is usable yet: `evergreen quarantine list` says why", name)
    return Ingested(
        datasets={dataset.name: dataset for dataset in datasets if dataset.samples},
        captions=tuple(captions),
        is_news=is_news,
        scored_only=tuple(raw.dataset for raw, source in found if source in scored),
    )


def locate(sources: Sequence[AnySource]) -> None:
    """Let this home know where images lie, for what goes on without a look at them: another machine may have begun."""
    for source in sources:
        source.locate()


def named(ingested: Ingested, names: Sequence[str], key: str) -> list[DatasetRef]:
    """The datasets called `names`; raises ValueError that says what there is. `key`: where the names were given."""
    if unknown := [name for name in names if name not in ingested.datasets]:
        raise ValueError(
            f"`{key}` names {', '.join(unknown)}, which no source holds; found: {sorted(ingested.datasets)}"
        )
    return [ingested.datasets[name] for name in names]
