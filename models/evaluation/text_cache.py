"""Embeddings of prompts and captions, kept by (text tower, texts, kind of device), and tokens by (backbone, texts).

A locked text tower embeds texts once; whatever the weights, they are tokenized once.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models import clip, embeddings
from models.checkpoints import CheckpointRef
from models.evaluation import kept
from models.evaluation.prompts import texts_of

VECTORS, TOKENS = "texts", "tokens"  # folders
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


def _embedded(model: nn.Module, backbone: str, eval_sets: Sequence[EvalSet]) -> list[Tensor]:
    """The vectors of each set: of several texts in one place the mean, made a unit vector again."""
    owners, tokens, totals = [], [], {}
    for eval_set in eval_sets:
        counts = torch.tensor([len(texts) for texts in texts_of(eval_set)])
        owners.append(torch.repeat_interleave(counts))
        tokens.append(_tokens(backbone, eval_set))
    for part in _parts([len(some) for some in tokens]):
        rows = [_padded(tokens[number][span], clip.context_length(backbone)) for number, span in part]
        found = embeddings.embed_tokens(model, torch.cat(rows)).split([len(some) for some in rows])
        for (number, span), vectors in zip(part, found, strict=True):
            owner = owners[number]
            total = totals.setdefault(number, torch.zeros(int(owner[-1]) + 1, vectors.shape[1]))
            total.index_add_(0, owner[span], vectors)
    return [_unit(totals[number], owner) for number, owner in enumerate(owners)]


def _unit(total: Tensor, owner: Tensor) -> Tensor:
    """Sums of unit vectors as unit vectors; those of one alone as they are."""
    several = torch.bincount(owner) > 1
    total[several] = F.normalize(total[several], dim=1)
    return total


def _parts(lengths: Sequence[int]) -> Iterator[list[tuple[int, slice]]]:
    """The rows of tables of some lengths, cut into parts of so many: the number of a table and its rows."""
    part, room = [], _AT_ONCE
    for number, length in enumerate(lengths):
        start = 0
        while start < length:
            stop = min(length, start + room)
            part.append((number, slice(start, stop)))
            start, room = stop, room - (stop - start)
            if not room:
                yield part
                part, room = [], _AT_ONCE
    if part:
        yield part


def _tokens(backbone: str, eval_set: EvalSet) -> np.ndarray:
    """The token ids of all texts of a set, int32 [texts, longest], without the zeros behind the longest.

    They are kept, since they follow from the texts, whatever the weights.
    """
    key = {"backbone": backbone, "texts": eval_set.texts, "revision": REVISION}
    digest = kept.find(TOKENS, key, f"tokens of {eval_set.name}")
    if digest is None or not store.is_intact(digest):
        texts = [text for some in texts_of(eval_set) for text in some]
        ids = clip.tokenizer(backbone)(texts).int()
        longest = int(ids.any(0).nonzero().max()) + 1
        digest = _stored(ids[:, :longest], stage="tokenize texts", backbone=backbone, texts=eval_set.texts)
        kept.keep(TOKENS, key, digest)
    return np.load(store.locate(digest), mmap_mode="r")


def _padded(tokens: np.ndarray, context: int) -> Tensor:
    return F.pad(torch.from_numpy(tokens.astype(np.int64)), (0, context - tokens.shape[1]))


def _stored(values: Tensor, **origin) -> str:
    with store.writing(**origin) as artifact, open(artifact.path, "wb") as file:
        np.save(file, values.numpy())
    return artifact.digest


def _found(tower: str, eval_set: EvalSet) -> Tensor | None:
    digest = kept.find(VECTORS, _key(tower, eval_set), f"texts of {eval_set.name}")
    if digest is None or not store.is_intact(digest):
        return None
    return torch.from_numpy(np.load(store.locate(digest)))


def _keep(tower: str, eval_set: EvalSet, vectors: Tensor) -> None:
    digest = _stored(vectors, stage="embed texts", tower=tower, texts=eval_set.texts)
    kept.keep(VECTORS, _key(tower, eval_set), digest)


def _key(tower: str, eval_set: EvalSet) -> dict[str, object]:
    return {"tower": tower, "texts": eval_set.texts, "device": embeddings.device_kind(), "revision": REVISION}
