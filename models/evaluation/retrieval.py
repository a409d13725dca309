"""Image-text retrieval: recall@k in both directions (reference 9.1)."""

import torch
from torch import Tensor

from models.evaluation.ranking import hits_at, rank_of


def recall_at_k(images: Tensor, texts: Tensor, owners: Tensor, ks: tuple[int, ...], chunk: int = 1024) -> list[float]:
    """Mean of text-to-image and image-to-text recall for each k, as fractions.

    `images` [n, dim], `texts` [m, dim], `owners` [m]: the position of the image that a text describes. A text hits
    when its image is among the k most similar images, an image when any of its texts is among the k most similar.
    Raises ValueError when an image has no text, since it could never hit.
    """
    silent = torch.bincount(owners, minlength=len(images)).eq(0).nonzero().flatten()
    if len(silent):
        raise ValueError(
            f"{len(silent)} of {len(images)} images have no text, the first at position {int(silent[0])}; "
            "leave them out of the evaluation set"
        )
    text_hits = _text_to_image_hits(images, texts, owners, ks, chunk).tolist()
    image_hits = _image_to_text_hits(images, texts, owners, ks, chunk).tolist()
    return [(t / len(texts) + i / len(images)) / 2 for t, i in zip(text_hits, image_hits, strict=True)]


def restricted(images: Tensor, texts: Tensor, owners: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The images at the positions `kept` with their texts alone: nothing else is a candidate, in either direction.

    So the recall is that of the smaller set scored by itself, which is easier than the whole: fewer wrong answers.
    """
    position = torch.full((len(images),), -1, device=images.device)
    position[kept] = torch.arange(len(kept), device=images.device)
    own = position[owners] >= 0
    return images[kept], texts[own], position[owners[own]]


def _text_to_image_hits(images: Tensor, texts: Tensor, owners: Tensor, ks: tuple[int, ...], chunk: int) -> Tensor:
    hits = torch.zeros(len(ks), dtype=torch.int64, device=images.device)
    for rows, owner in zip(texts.split(chunk), owners.split(chunk), strict=True):
        hits += hits_at(rank_of(rows @ images.T, owner), ks)
    return hits


def _image_to_text_hits(images: Tensor, texts: Tensor, owners: Tensor, ks: tuple[int, ...], chunk: int) -> Tensor:
    hits = torch.zeros(len(ks), dtype=torch.int64, device=images.device)
    for start, rows in zip(range(0, len(images), chunk), images.split(chunk), strict=True):
        similarity = rows @ texts.T  # [rows, texts]
        position = torch.arange(start, start + len(rows), device=images.device)
        best = similarity.masked_fill(owners != position[:, None], -torch.inf).argmax(1)  # the own text ranked first
        hits += hits_at(rank_of(similarity, best), ks)
    return hits
