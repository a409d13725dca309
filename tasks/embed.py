"""From a dataset and a checkpoint to the embeddings of its images."""

from collections.abc import Sequence

from data_catalog.shards import DatasetRef
from models import embeddings
from models.checkpoints import CheckpointRef
from models.embeddings import EmbeddedRows, EmbeddingsRef
from tasks.caching import cached
from tasks.progress import progress_by_label


@cached(revision=2, label="embed {dataset.name}", ignore=("pieces",))
def embed_dataset(
    dataset: DatasetRef,
    checkpoint: CheckpointRef,
    splits: tuple[str, ...] = ("train", "test"),
    pieces: Sequence[EmbeddedRows] = (),
) -> EmbeddingsRef:
    """Embed every image of the given splits with a checkpoint; `pieces`: what others made of all of them."""
    with progress_by_label() as progress:
        return embeddings.embed_dataset(dataset, checkpoint, splits, progress, pieces)


@cached(revision=2, label="embed {dataset.name} from {start}")
def embed_rows(
    dataset: DatasetRef, checkpoint: CheckpointRef, splits: tuple[str, ...], start: int, stop: int
) -> EmbeddedRows:
    """A piece of what `embed_dataset` makes."""
    with progress_by_label() as progress:
        return embeddings.embed_rows(dataset, checkpoint, splits, start, stop, progress)
