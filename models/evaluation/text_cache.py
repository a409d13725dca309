"""Embeddings of prompts and captions, kept by (text tower, texts): a locked text tower embeds them once."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models import embeddings
from models.checkpoints import CheckpointRef
from models.evaluation import kept
from models.evaluation.prompts import texts_of

FOLDER = "texts"
REVISION = 1  # raise when the same weights would give the same texts other vectors
_AT_ONCE = 8192  # texts in memory, of ensembles too


def text_vectors(
    checkpoint: CheckpointRef, eval_sets: Sequence[EvalSet], build: Callable[[], nn.Module]
) -> dict[str, Tensor]:
    """The unit vectors of the texts of each set, by its name: float32 [classes or captions, dim] on the CPU.

    `build` makes the model and is called only if some of the texts are not kept. What is not finite is not kept.
    """
    lists = {eval_set.texts: eval_set for eval_set in eval_sets}  # sets of one list share its vectors
    tower = embeddings.tower_digest(checkpoint, "text")
    known = {digest: _found(tower, eval_set) for digest, eval_set in lists.items()}
    missing = [eval_set for digest, eval_set in lists.items() if known[digest] is None]
    if missing:
        for eval_set, vectors in zip(missing, _embedded(build(), checkpoint.backbone, missing), strict=True):
            known[eval_set.texts] = vectors
            if bool(vectors.isfinite().all()):
                _keep(tower, eval_set, vectors)
    return {eval_set.name: known[eval_set.texts] for eval_set in eval_sets}


def _embedded(model: nn.Module, backbone: str, eval_sets: Sequence[EvalSet]) -> Iterator[Tensor]:
    """The vectors of each set: of several texts in one place the mean, made a unit vector again."""
    classes = [texts_of(eval_set) for eval_set in eval_sets]
    rows = [texts for some in classes for texts in some]
    parts = [_means(model, backbone, part) for part in _parts(rows)]
    yield from torch.cat(parts).split([len(some) for some in classes])


def _means(model: nn.Module, backbone: str, rows: Sequence[tuple[str, ...]]) -> Tensor:
    distinct = list(dict.fromkeys(text for texts in rows for text in texts))
    place = {text: i for i, text in enumerate(distinct)}
    vectors = embeddings.embed_texts(model, backbone, distinct)
    if all(len(texts) == 1 for texts in rows):
        return vectors[[place[text] for (text,) in rows]]
    means = [vectors[[place[text] for text in texts]] for texts in rows]
    return torch.stack([few[0] if len(few) == 1 else F.normalize(few.mean(0), dim=0) for few in means])


def _parts(rows: Sequence[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """`rows` in parts of at most so many texts, and at least one row."""
    part, count = [], 0
    for texts in rows:
        if part and count + len(texts) > _AT_ONCE:
            yield part
            part, count = [], 0
        part.append(texts)
        count += len(texts)
    yield part


def _found(tower: str, eval_set: EvalSet) -> Tensor | None:
    digest = kept.find(FOLDER, _key(tower, eval_set), f"texts of {eval_set.name}")
    if digest is None or not store.is_intact(digest):
        return None
    return torch.from_numpy(np.load(store.locate(digest)))


def _keep(tower: str, eval_set: EvalSet, vectors: Tensor) -> None:
    origin = {"stage": "embed texts", "tower": tower, "texts": eval_set.texts}
    with store.writing(**origin) as artifact, open(artifact.path, "wb") as file:
        np.save(file, vectors.numpy())
    kept.keep(FOLDER, _key(tower, eval_set), artifact.digest)


def _key(tower: str, eval_set: EvalSet) -> dict[str, object]:
    return {"tower": tower, "texts": eval_set.texts, "revision": REVISION}
