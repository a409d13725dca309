"""From datasets to groups of duplicates, and to what a stream and its evaluation do about them."""

from data_catalog import duplicates, leaks
from data_catalog.duplicates import DuplicateGroups, DuplicateSearch
from data_catalog.exclusions import Exclusions
from data_catalog.leaks import DuplicatePolicy
from data_catalog.shards import DatasetRef
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


@cached(revision=1, label="exclude duplicates")
def exclude_duplicates(
    groups: list[DuplicateGroups], policy: DuplicatePolicy, training: list[str], evaluation: list[str]
) -> Exclusions | None:
    """The training samples of the datasets `training` that the policy drops or marks."""
    return leaks.exclusions(groups, policy, training_datasets=training, evaluation_datasets=evaluation)


@cached(revision=1, label="find leaks")
def find_leaks(
    groups: list[DuplicateGroups], policy: DuplicatePolicy, training: list[str], left_out: list[Exclusions]
) -> Exclusions:
    """The evaluation images with a duplicate among the images that are trained on."""
    return leaks.leaks(groups, policy, training_datasets=training, left_out=left_out)
