"""From a dataset to the texts its images are trained with, and to how well these fit."""

from collections.abc import Sequence

from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from data_catalog import captions, store
from data_catalog.captions import CaptionRef, CaptionScores
from data_catalog.shards import DatasetRef
from models import caption_quality
from models.captioning import AnyCaptioner, row_memory
from models.captioning.row_memory import AnswersRef
from models.checkpoints import CheckpointRef
from models.embeddings import EmbeddingsRef
from tasks.caching import cached
from tasks.progress import progress_by_label


@cached(revision=2, label="caption {dataset.name}", ignore=("captioner", "answers"))
def caption_dataset(
    dataset: DatasetRef, captioner: AnyCaptioner, captioner_identity: str, answers: Sequence[AnswersRef] = ()
) -> CaptionRef:
    """Let a captioner write about the images of a dataset; `captioner_identity`: `captioner.identity()`.

    `answers`: what others have heard from it already.
    """
    with progress_by_label() as progress, row_memory.known_already(answers):
        made = captions.caption(dataset, captioner, progress)
    _log_usage(made)
    return made


@cached(revision=2, label="caption {dataset.name} from {start}", ignore=("captioner",))
def caption_rows(
    dataset: DatasetRef, captioner: AnyCaptioner, captioner_identity: str, start: int, stop: int
) -> AnswersRef:
    """What a captioner says of a piece of a dataset."""
    with progress_by_label() as progress, row_memory.hearing() as heard:
        captions.caption_some(dataset, captioner, start, stop, progress)
    return row_memory.stored(heard, stage="caption_rows", dataset=dataset, captioner=captioner.id())


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


def _log_usage(made: CaptionRef) -> None:
    """Say in the log of the run what the captions took: tokens, money, fallbacks."""
    took = store.origins(made.digest)[-1]["usage"]
    if took and TaskRunContext.get():
        line = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in took.items())
        get_run_logger().info("captions of %s by %s took: %s", made.name, made.captioner, line)
