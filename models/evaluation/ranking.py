"""Ranks of right answers, with one rule for ties so that a score is the same however the work is cut."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = {"cpu": 64, "cuda": 256}  # rows of a matrix product; always as many, since their number decides bits


def rank_of(similarity: Tensor, answer: Tensor) -> Tensor:
    """How many columns come before column `answer[i]` in row i: greater ones, and equal ones further left.

    `similarity`: [rows, columns]; `answer`: column indices [rows]. Rank 0 is what argmax returns.
    """
    answer = answer[:, None]
    own = similarity.gather(1, answer)  # [rows, 1]
    left = torch.arange(similarity.shape[1], device=similarity.device) < answer
    return torch.count_nonzero((similarity > own) | ((similarity == own) & left), dim=1)


def best_of(similarity: Tensor, count: int) -> Tensor:
    """The `count` best columns of each row, best first, of equal ones the left one first: int64 [rows, count].

    -1 where there are fewer columns.
    """
    columns = similarity.shape[1]
    values, places = similarity.topk(min(count + 1, columns), dim=1)  # one more, to see whether it ties
    tied = (values[:, 1:] == values[:, :-1]).any(1)
    if bool(tied.any()):  # topk takes any of equal ones
        ordered = similarity[tied].sort(dim=1, descending=True, stable=True).indices
        places[tied] = ordered[:, : places.shape[1]]
    return F.pad(places[:, :count], (0, max(0, count - columns)), value=-1)


def blocks_of(rows: Tensor) -> Iterator[tuple[Tensor, int]]:
    """`rows` [n, ...] in blocks of one length, the last one filled up with zeros, and how many rows count."""
    block = BLOCK[rows.device.type]
    for part in rows.split(block):
        missing = block - len(part)
        yield (torch.cat([part, part.new_zeros(missing, *part.shape[1:])]) if missing else part), len(part)
