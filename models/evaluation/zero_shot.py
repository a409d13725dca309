"""Zero-shot classification: an image belongs to the class whose prompt it is most similar to."""

import torch
from torch import Tensor

from models.evaluation.ranking import rank_of


def class_ranks(images: Tensor, classes: Tensor, targets: Tensor, chunk: int = 1024) -> Tensor:
    """How many classes come before the own one of each image: int64 [n] on the device; 0 is the right answer.

    `images` [n, dim], `classes` [classes, dim], `targets` [n]; at most `chunk` rows of logits exist at a time.
    """
    parts = zip(images.split(chunk), targets.split(chunk), strict=True)
    return torch.cat([rank_of(rows @ classes.T, answer) for rows, answer in parts])
