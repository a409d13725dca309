"""Find pictures that an experiment holds more than once, within and across its datasets and splits."""

from prefect import flow

from data_catalog.duplicates import DuplicateGroups, DuplicateSearch
from flows.chosen_weights import choose
from flows.engines import carried_out_by
from flows.environment import open_home
from flows.experiment import ExperimentConfig, given
from flows.ingest import ingest_experiment
from flows.preparing import begin, gather, hashed_groups, near_groups
from tasks.journal import journal
from tasks.record import record_findings


@flow(name="duplicates")
def duplicates(config: ExperimentConfig | str, search: DuplicateSearch) -> list[DuplicateGroups]:
    """Ingest the sources of an experiment and group what shows the same picture; only embeddings need a checkpoint."""
    open_home()  # a worker's process has no command before it that did
    experiment = given(config)
    with carried_out_by(experiment.execution.stages), journal():
        ingested = ingest_experiment(experiment)
        datasets = list(ingested.datasets.values())
        groups = hashed_groups(datasets, search)
        if "embedding" in search.kinds:
            start, _ = begin(experiment, gather(experiment, ingested)[0])
            groups += near_groups(datasets, search, choose(experiment, start, search.checkpoint))
        record_findings(groups, [])
        return groups
