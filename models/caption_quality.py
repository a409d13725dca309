"""How well texts fit their images to a checkpoint: the cosine of their embeddings.

CLIPScore (Hessel et al. 2021, arXiv 2104.08718) scales it by 2.5 and cuts it at zero; here it stays as it is.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from data_catalog import store
from data_catalog.caption_rows import SCORES, CaptionRef, CaptionScores, given_rows
from data_catalog.captions import Progress
from data_catalog.shards import DatasetRef
from models.checkpoints import CheckpointRef
from models.embeddings import EmbeddingsRef, embed_dataset, embed_texts, images_of, load_embeddings, on_device

TEXTS_AT_ONCE = 8192


def score_captions(
    dataset: DatasetRef,
    captions: CaptionRef | None,
    checkpoint: CheckpointRef,
    embeddings: EmbeddingsRef | None = None,
    splits: tuple[str, ...] = ("train",),
    progress: Progress | None = None,
) -> CaptionScores:
    """Score every text of `captions` (None: those that came with the data) whose image is in `splits`.

    `embeddings`: of the images by the same checkpoint, if they are known already. Raises ValueError if they are of
    another checkpoint or dataset.
    """
    images = embeddings or embed_dataset(dataset, checkpoint, splits, progress)
    if (images.dataset, images.checkpoint) != (dataset.digest, checkpoint.digest):
        raise ValueError(
            f"the embeddings are of dataset {images.dataset[:19]} by checkpoint {images.checkpoint[:19]}, expected "
            f"{dataset.name} {dataset.digest[:19]} by {checkpoint.digest[:19]}; embed these images with this checkpoint"
        )
    table = store.read_table(captions.digest) if captions else given_rows(dataset)
    scores = _cosines(dataset, table, images, checkpoint, progress)
    columns = [table["sample"], table["position"], pa.array(scores, mask=np.isnan(scores)), table["kind"]]
    scored = captions.digest if captions else dataset.digest
    origin = {"stage": "score_captions", "dataset": dataset, "captions": scored, "checkpoint": checkpoint}
    return CaptionScores(
        digest=store.write_table(pa.table(columns, schema=SCORES).combine_chunks(), **origin),
        dataset=dataset.digest,
        captions=scored,
        name=dataset.name,
        checkpoint=checkpoint.digest,
    )


def _cosines(
    dataset: DatasetRef, table: pa.Table, images: EmbeddingsRef, checkpoint: CheckpointRef, progress: Progress | None
) -> np.ndarray:
    """Float32 [rows of `table`], NaN where the image has no embedding; equal texts are embedded once, or nearly so."""
    ids = images_of(dataset.digest, images.splits, ["id"])["id"].combine_chunks()
    place = pc.index_in(table["sample"], value_set=ids).fill_null(-1).to_numpy()
    text = table["text"].combine_chunks().dictionary_encode()
    codes, texts = text.indices.to_numpy(), text.dictionary
    rows = np.flatnonzero(place >= 0)
    rows = rows[np.argsort(codes[rows], kind="stable")]  # equal texts beside each other
    known, model = load_embeddings(images), on_device(checkpoint)
    scores = np.full(table.num_rows, np.nan, np.float32)
    for start in range(0, len(rows), TEXTS_AT_ONCE):
        some = rows[start : start + TEXTS_AT_ONCE]
        distinct, which = np.unique(codes[some], return_inverse=True)
        said = embed_texts(model, checkpoint.backbone, texts.take(pa.array(distinct)).to_pylist())
        seen = torch.from_numpy(known[place[some]].astype(np.float32))
        scores[some] = (seen * said[which]).sum(1).numpy()
        if progress:
            progress(f"score captions of {dataset.name}", min(start + TEXTS_AT_ONCE, len(rows)), len(rows))
    return scores
