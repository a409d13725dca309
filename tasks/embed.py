"""From a dataset and a checkpoint to the embeddings of its images."""

from data_catalog.shards import DatasetRef
from models import embeddings
from models.checkpoints import CheckpointRef
from models.embeddings import EmbeddingsRef
from tasks.caching import cached
from tasks.progress import progress_by_label


@cached(revision=2, label="embed {dataset.name}")
def embed_dataset(
    dataset: DatasetRef, checkpoint: CheckpointRef, splits: tuple[str, ...] = ("train", "test")
) -> EmbeddingsRef:
    """Embed every image of the given splits with a checkpoint."""
    with progress_by_label() as progress:
        return embeddings.embed_dataset(dataset, checkpoint, splits, progress)
