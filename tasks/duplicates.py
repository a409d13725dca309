"""From datasets to groups of duplicates, and to what a stream and its evaluation do about them."""

import pyarrow as pa

from data_catalog import duplicates, leaks
from data_catalog.duplicates import DuplicateGroups, DuplicateSearch
from data_catalog.exclusions import Exclusions
from data_catalog.leaks import DuplicatePolicy
from data_catalog.shards import DatasetRef
from data_catalog.stream import StreamPlan, samples_of
from models import near_duplicates
from models.embeddings import EmbeddingsRef
from tasks.caching import cached
from tasks.progress import progress_by_label


@cached(revision=1, label="find duplicates")
def find_duplicates(datasets: list[DatasetRef], search: DuplicateSearch) -> DuplicateGroups:
    """Samples with equal bytes or close perceptual hashes."""
    with progress_by_label() as progress:
        return duplicates.find_duplicates(datasets, search, progress)


@cached(revision=1, label="find near duplicates")
def find_near_duplicates(
    embeddings: list[EmbeddingsRef], search: DuplicateSearch, candidates: DuplicateGroups | None = None
) -> DuplicateGroups:
    """Samples with similar embeddings."""
    with progress_by_label() as progress:
        return near_duplicates.find_near_duplicates(embeddings, search, candidates, progress)


@cached(revision=2, label="exclude duplicates")
def exclude_duplicates(
    groups: list[DuplicateGroups], policy: DuplicatePolicy, draft: StreamPlan, evaluation: list[str]
) -> Exclusions | None:
    """What the policy drops or marks of the samples of `draft`, a plan that takes no notice of duplicates."""
    trained = samples_of(draft)["sample"].combine_chunks()
    return leaks.exclusions(groups, policy, trained=trained, evaluation_datasets=evaluation)


@cached(revision=2, label="find leaks")
def find_leaks(groups: list[DuplicateGroups], policy: DuplicatePolicy, plans: list[StreamPlan]) -> Exclusions:
    """The evaluation images with a duplicate among the images that any of `plans` trains on."""
    trained = pa.chunked_array([chunk for plan in plans for chunk in samples_of(plan)["sample"].chunks], pa.string())
    return leaks.leaks(groups, policy, trained=trained.combine_chunks())
