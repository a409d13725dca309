"""Zero-shot classification: an image belongs to the class whose prompt it is most similar to."""

import torch
from torch import Tensor

from models.evaluation.ranking import hits_at, rank_of


def count_hits(
    images: Tensor, classes: Tensor, targets: Tensor, ks: tuple[int, ...] = (1,), chunk: int = 1024
) -> Tensor:
    """How many images have their class among the k most similar ones, for each k: [len(ks)] integers on the device.

    `images` [n, dim], `classes` [classes, dim], `targets` [n]; at most `chunk` rows of logits exist at a time.
    """
    hits = torch.zeros(len(ks), dtype=torch.int64, device=images.device)
    for rows, answer in zip(images.split(chunk), targets.split(chunk), strict=True):
        hits += hits_at(rank_of(rows @ classes.T, answer), ks)
    return hits
