"""Image-text retrieval: ranks of the right answers in both directions (reference 9.1)."""

import torch
from torch import Tensor

from models.evaluation.ranking import blocks_of, rank_of


def retrieval_ranks(images: Tensor, texts: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """How many texts come before the best own text of each image, int32 [n], and images before that of a text, [m].

    `images` [n, dim], `texts` [m, dim], `owners` [m]: the position of the image that a text describes, each at least
    once. Only a block of rows is compared at a time.
    """
    return _image_ranks(images, texts, owners), _text_ranks(images, texts, owners)


def _text_ranks(images: Tensor, texts: Tensor, owners: Tensor) -> Tensor:
    blocks = zip(blocks_of(texts), blocks_of(owners), strict=True)
    return torch.cat([rank_of(rows @ images.T, owner)[:count].int() for (rows, count), (owner, _) in blocks])


def _image_ranks(images: Tensor, texts: Tensor, owners: Tensor) -> Tensor:
    ranks, positions = [], torch.arange(len(images), device=images.device)
    for (rows, count), (position, _) in zip(blocks_of(images), blocks_of(positions), strict=True):
        similarity = rows @ texts.T  # [block, texts]
        best = similarity.masked_fill(owners != position[:, None], -torch.inf).argmax(1)  # the own text ranked first
        ranks.append(rank_of(similarity, best)[:count].int())
    return torch.cat(ranks)
