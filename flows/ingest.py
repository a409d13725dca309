"""Fill the catalog only: find what the sources hold, index it, caption it, record it."""

from collections.abc import Sequence

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data_catalog.captions import AnyCaptioner, CaptionRef
from data_catalog.refs import Spec
from data_catalog.shards import DatasetRef
from data_catalog.sources import AnySource
from flows.environment import open_home
from flows.experiment import ExperimentConfig, given
from tasks.caption import caption_dataset
from tasks.ingest import ingest_dataset, record_in_catalog, scan_source
from tasks.journal import journal


class Ingested(Spec):
    """Datasets and their training texts by dataset name, and whether the catalog had to be written."""

    datasets: dict[str, DatasetRef]
    captions: dict[str, CaptionRef]
    is_news: bool


@flow(name="ingest", task_runner=ThreadPoolTaskRunner(max_workers=4))
def ingest(config: ExperimentConfig | str) -> Ingested:
    """Ingest and caption the sources of an experiment; on unchanged data nothing is written.

    `config`: an experiment, or the path of its YAML file, e.g. flows/configs/demo.yaml.
    """
    open_home()  # a worker's process has no command before it that did
    experiment = given(config)
    with journal():
        return ingest_sources(experiment.sources, experiment.captioner)


def ingest_sources(sources: Sequence[AnySource], captioner: AnyCaptioner) -> Ingested:
    """Every dataset of every source, indexed, captioned and in the catalog."""
    found = [(raw, source) for source in sources for raw in scan_source(source)]
    names = [raw.dataset for raw, _ in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"datasets {', '.join(twice)} are in more than one source; leave all but one out with `datasets`"
        )
    indexed = [ingest_dataset.submit(raw, source) for raw, source in found]
    captioned = [caption_dataset.submit(dataset, captioner) for dataset in indexed]
    datasets, captions = [future.result() for future in indexed], [future.result() for future in captioned]
    return Ingested(
        datasets={dataset.name: dataset for dataset in datasets},
        captions={caption.name: caption for caption in captions},
        is_news=record_in_catalog(datasets, captions),
    )


def named(ingested: Ingested, names: Sequence[str], key: str) -> list[DatasetRef]:
    """The datasets called `names`; raises ValueError that says what there is. `key`: where the names were given."""
    if unknown := [name for name in names if name not in ingested.datasets]:
        raise ValueError(
            f"`{key}` names {', '.join(unknown)}, which no source holds; found: {sorted(ingested.datasets)}"
        )
    return [ingested.datasets[name] for name in names]
