"""Merging written straight from the formulas, everything in memory at once: what `models/merging` is measured against.

Task arithmetic (arXiv 2212.04089), TIES (2306.01708), DARE (2311.03099), MagMax (2407.06322) and interpolation
(2203.05482). Each half of the model (image, text) of every checkpoint is one vector, and the vectors of all experts a
matrix [experts, entries], as in the code published with TIME (2412.06712).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Combine = Callable[[Tensor, Tensor], Tensor]  # (base [entries], experts [experts, entries]) -> merged [entries]

PRUNED = 0.8  # share of the entries of a task vector that goes


def merge(technique: str, base: Path, experts: Sequence[Path], output: Path) -> None:
    """Write the merge of `experts` around `base`, all of them safetensors files of one layout."""
    origin, others = load_file(base), [load_file(path) for path in experts]
    merged = {}
    for is_image in (True, False):
        names = [name for name in origin if name.startswith("visual.") == is_image]
        stacked = torch.stack([flattened(weights, names) for weights in others])
        merged |= unflattened(TECHNIQUES[technique](flattened(origin, names), stacked), origin, names)
    save_file(merged, output)


def flattened(weights: dict[str, Tensor], names: list[str]) -> Tensor:
    """The tensors `names` in one vector."""
    return torch.cat([weights[name].reshape(-1) for name in names])


def unflattened(vector: Tensor, like: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """The vector cut into tensors of the names and shapes of `like`."""
    pieces = vector.split([like[name].numel() for name in names])
    return {name: piece.reshape(like[name].shape) for name, piece in zip(names, pieces, strict=True)}


def interpolation(base: Tensor, experts: Tensor) -> Tensor:
    """The plain mean."""
    return experts.mean(0)


def task_arithmetic(base: Tensor, experts: Tensor) -> Tensor:
    """The sum of the task vectors, added to the base."""
    return base + (experts - base).sum(0)


def ties(base: Tensor, experts: Tensor) -> Tensor:
    """The mean of the large entries that agree with the elected sign."""
    return base + mean_of_agreeing(large_entries(experts - base))


def dare_linear(base: Tensor, experts: Tensor) -> Tensor:
    """The sum of what a random choice leaves, scaled up."""
    return base + random_entries(experts - base).sum(0)


def dare_ties(base: Tensor, experts: Tensor) -> Tensor:
    """The mean of what a random choice leaves, scaled up, where it agrees with the elected sign."""
    return base + mean_of_agreeing(random_entries(experts - base))


def magmax(base: Tensor, experts: Tensor) -> Tensor:
    """The entry of largest magnitude."""
    vectors = experts - base
    return base + vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).squeeze(0)


TECHNIQUES: dict[str, Combine] = {
    "linear": interpolation,
    "task_arithmetic": task_arithmetic,
    "ties": ties,
    "dare_linear": dare_linear,
    "dare_ties": dare_ties,
    "magmax": magmax,
}


def large_entries(vectors: Tensor) -> Tensor:
    """Each row with what is below its own k-th smallest magnitude set to zero."""
    magnitudes = vectors.abs()
    return torch.where(magnitudes >= _thresholds(magnitudes), vectors, 0)


def random_entries(vectors: Tensor, seed: int = 0) -> Tensor:
    """Each row with the same share set to zero at random, the rest scaled up in return."""
    draws = torch.rand(vectors.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(draws >= _thresholds(draws), vectors / (1 - PRUNED), 0)


def mean_of_agreeing(vectors: Tensor) -> Tensor:
    """The mean, entry by entry, of those whose sign is that of the sum."""
    sign = vectors.sum(0).sign()
    sign = torch.where(sign == 0, sign.sum().sign(), sign)
    agreeing = (vectors.sign() == sign) & (vectors != 0)
    return (vectors * agreeing).sum(0) / agreeing.sum(0).clamp(min=1)


def _thresholds(rows: Tensor) -> Tensor:
    return rows.kthvalue(int(rows.shape[1] * PRUNED), dim=1, keepdim=True).values
