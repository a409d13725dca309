"""From a dataset to the texts its images are trained with, and to how well these fit."""

from data_catalog import captions
from data_catalog.captions import CaptionRef, CaptionScores
from data_catalog.shards import DatasetRef
from models import caption_quality
from models.captioning import AnyCaptioner
from models.checkpoints import CheckpointRef
from models.embeddings import EmbeddingsRef
from tasks.caching import cached
from tasks.progress import progress_by_label


@cached(revision=2, label="caption {dataset.name}", ignore=("captioner",))
def caption_dataset(dataset: DatasetRef, captioner: AnyCaptioner, captioner_identity: str) -> CaptionRef:
    """Let a captioner write about the images of a dataset; `captioner_identity`: `captioner.identity()`."""
    with progress_by_label() as progress:
        return captions.caption(dataset, captioner, progress)


@cached(revision=1, label="score captions {dataset.name}")
def score_captions(
    dataset: DatasetRef,
    captions: CaptionRef | None,
    checkpoint: CheckpointRef,
    embeddings: EmbeddingsRef | None = None,
    splits: tuple[str, ...] = ("train",),
) -> CaptionScores:
    """Score texts against their images: those of `captions`, or those that came with the data."""
    with progress_by_label() as progress:
        return caption_quality.score_captions(dataset, captions, checkpoint, embeddings, splits, progress)
