"""The long stages of one dataset, in pieces where several workers can take some each; what comes of it is the same."""

from collections.abc import Sequence

from prefect.futures import PrefectFuture

from data_catalog import captions
from data_catalog.captions import CaptionRef
from data_catalog.shards import DatasetRef
from data_catalog.sources import AnySource
from data_catalog.sources.base import RawDataset
from flows.engines import images_of_a_task
from models.captioning import AnyCaptioner
from models.checkpoints import CheckpointRef
from models.embeddings import EmbeddingsRef
from tasks.caption import caption_dataset, caption_rows
from tasks.embed import embed_dataset, embed_rows
from tasks.ingest import cut_new_images, forget_refusals, inspect_images, scan_source


def scan(source: AnySource, retry: bool) -> Sequence[RawDataset]:
    """The datasets a source holds now; `retry`: look again at what was refused, not only at what changed."""
    if retry:
        forget_refusals(source)
    size = images_of_a_task()
    pieces = [inspect_images.submit(source, rows) for rows in cut_new_images(source, size)] if size else []
    return scan_source(source, [piece.result() for piece in pieces])


def caption(dataset: DatasetRef, captioner: AnyCaptioner) -> PrefectFuture[CaptionRef]:
    """What a captioner writes about the images of a dataset, which is asked for."""
    size, said = images_of_a_task(), captioner.identity()
    pieces = []
    if size and captioner.asked_together() and not caption_dataset.is_known(dataset, captioner, said):
        ends = captions.cut(dataset, captioner, size)
        pieces = [caption_rows.submit(dataset, captioner, said, start, stop) for start, stop in ends]
    return caption_dataset.submit(dataset, captioner, said, pieces)


def embed(dataset: DatasetRef, checkpoint: CheckpointRef, splits: tuple[str, ...]) -> PrefectFuture[EmbeddingsRef]:
    """The embeddings of a dataset by a checkpoint, which are asked for."""
    size, count = images_of_a_task(), sum(dataset.samples.get(split, 0) for split in splits)
    pieces = []
    if size and count > size and not embed_dataset.is_known(dataset, checkpoint, splits):
        pieces = [embed_rows.submit(dataset, checkpoint, splits, start, min(start + size, count))
                  for start in range(0, count, size)]  # fmt: skip
    return embed_dataset.submit(dataset, checkpoint, splits, pieces)
