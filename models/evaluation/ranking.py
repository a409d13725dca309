"""Ranks of right answers, with one rule for ties so that a score is the same however the work is cut."""

import torch
from torch import Tensor


def rank_of(similarity: Tensor, answer: Tensor) -> Tensor:
    """How many columns come before column `answer[i]` in row i: greater ones, and equal ones further left.

    `similarity`: [rows, columns]; `answer`: column indices [rows]. Rank 0 is what argmax returns.
    """
    answer = answer[:, None]
    own = similarity.gather(1, answer)  # [rows, 1]
    left = torch.arange(similarity.shape[1], device=similarity.device) < answer
    return torch.count_nonzero((similarity > own) | ((similarity == own) & left), dim=1)


def hits_at(ranks: Tensor, ks: tuple[int, ...]) -> Tensor:
    """How many of `ranks` lie within the first k, for each k: [len(ks)] integers on the device of `ranks`."""
    return (ranks[:, None] < torch.tensor(ks, device=ranks.device)).sum(0)
