"""From a dataset and a checkpoint to the embeddings of its images."""

from data_catalog.shards import DatasetRef
from models import embeddings
from models.checkpoints import CheckpointRef
from models.embeddings import EmbeddingsRef
from tasks.caching import cached
from tasks.counts import counts_of


@cached(revision=2, label="embed {dataset.name}")
def embed_dataset(
    dataset: DatasetRef, checkpoint: CheckpointRef, splits: tuple[str, ...] = ("train", "test")
) -> EmbeddingsRef:
    """Embed every image of the given splits with a checkpoint."""
    with counts_of(f"embed {dataset.name}") as progress:
        return embeddings.embed_dataset(dataset, checkpoint, splits, progress)
