"""Find pictures that an experiment holds more than once, within and across its datasets and splits."""

from collections.abc import Sequence

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data_catalog.duplicates import DuplicateGroups, DuplicateSearch, is_searched
from data_catalog.shards import DatasetRef
from flows.continual import prepare
from flows.environment import open_home
from flows.evaluate import choose
from flows.experiment import ExperimentConfig, given
from flows.ingest import ingest_sources
from models.checkpoints import CheckpointRef
from tasks.duplicates import find_duplicates, find_near_duplicates
from tasks.embed import embed_dataset
from tasks.journal import journal


@flow(name="duplicates", task_runner=ThreadPoolTaskRunner(max_workers=4))
def duplicates(config: ExperimentConfig | str, search: DuplicateSearch) -> list[DuplicateGroups]:
    """Ingest the sources of an experiment and group what shows the same picture; only embeddings need a checkpoint."""
    open_home()  # a worker's process has no command before it that did
    experiment = given(config)
    with journal():
        ingested = ingest_sources(experiment.sources, experiment.captioner)
        checkpoint = None
        if "embedding" in search.kinds:
            checkpoint = choose(experiment, prepare(experiment, ingested).plan, search.checkpoint)
        return group_duplicates(list(ingested.datasets.values()), search, checkpoint)


def group_duplicates(
    datasets: Sequence[DatasetRef], search: DuplicateSearch, checkpoint: CheckpointRef | None
) -> list[DuplicateGroups]:
    """Exact and perceptual groups, then those by the embeddings of `checkpoint`, as far as `search` asks for them."""
    looked_at = is_searched(search, [dataset.name for dataset in datasets])
    chosen = sorted((d for d, wanted in zip(datasets, looked_at, strict=True) if wanted), key=lambda d: d.name)
    hashed = tuple(kind for kind in search.kinds if kind != "embedding")
    groups = []
    if hashed:  # searches name no more than they use, so that another threshold re-runs its own stage alone
        groups.append(
            find_duplicates(chosen, DuplicateSearch(kinds=hashed, perceptual_distance=search.perceptual_distance))
        )
    if checkpoint is not None:
        waiting = [embed_dataset.submit(dataset, checkpoint, tuple(sorted(dataset.samples))) for dataset in chosen]
        vectors = [future.result() for future in waiting]
        groups.append(
            find_near_duplicates(vectors, DuplicateSearch(kinds=("embedding",), similarity=search.similarity))
        )
    return groups
