"""Zero-shot classification: an image belongs to the class whose prompts it is most similar to."""

from typing import NamedTuple

import torch
from torch import Tensor

from models.evaluation.ranking import best_of, blocks_of, rank_of

TOP = 5


class Head(NamedTuple):
    """How a model turns cosines into probabilities."""

    scale: float  # exponentiated inverse temperature
    bias: float | None  # of models trained with the sigmoid loss; None: softmax over the classes

    def confidence(self, similarity: Tensor) -> Tensor:
        """The probability of the most similar class: float32 [rows] from cosines [rows, classes], which it spoils."""
        best = similarity.amax(1, keepdim=True)
        if self.bias is not None:  # Zhai et al. 2023, arXiv 2303.15343, section 3.2
            return (best[:, 0] * self.scale + self.bias).sigmoid()
        return similarity.sub_(best).mul_(self.scale).exp_().sum(1).reciprocal()


class Answers(NamedTuple):
    """What became of some images, on the device."""

    rank: Tensor  # int32 [n]: how many classes come before the own one; 0 is the right answer
    top: Tensor  # int32 [n, TOP]: the best classes, best first; -1 where there are fewer
    confidence: Tensor  # float32 [n]: probability of the first of them


def no_answers(images: int, device: torch.device) -> Answers:
    """Room for the answers to so many images."""
    return Answers(
        rank=torch.empty(images, dtype=torch.int32, device=device),
        top=torch.empty((images, TOP), dtype=torch.int32, device=device),
        confidence=torch.empty(images, device=device),
    )


def answers(images: Tensor, classes: Tensor, targets: Tensor, head: Head) -> Answers:
    """The answers to `images` [n, dim] among `classes` [classes, dim], whose own one is `targets` int64 [n].

    Of a row its answer follows alone, however many stand beside it: products are made of blocks of one length.
    """
    parts = []
    for (rows, count), (own, _) in zip(blocks_of(images), blocks_of(targets), strict=True):
        similarity = rows @ classes.T  # [block, classes]
        rank, top = rank_of(similarity, own).int(), best_of(similarity, TOP).int()
        parts.append([part[:count] for part in (rank, top, head.confidence(similarity))])
    return Answers(*(torch.cat(column) for column in zip(*parts, strict=True)))
