"""Arithmetic on whole checkpoints, one tensor at a time: a checkpoint is a mapping from names to tensors."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from models.tensor_files import header_of

Weights = Mapping[str, Tensor]


class StoredWeights(Mapping[str, Tensor]):
    """Weights in a safetensors file; each tensor is read when it is asked for."""

    def __init__(self, path: Path):
        self._file = safe_open(path, framework="pt")
        self._names = sorted(self._file.keys())

    def __getitem__(self, name: str) -> Tensor:
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class _Mapped(Mapping[str, Tensor]):
    def __init__(self, function: Callable[..., Tensor], weights: tuple[Weights, ...]):
        self._function, self._weights = function, weights

    def __getitem__(self, name: str) -> Tensor:
        tensors = [weights[name] for weights in self._weights]
        newest = tensors[-1]
        if not newest.is_floating_point():
            return newest  # counters and index buffers have no meaningful mean
        return self._function(*(tensor.float() for tensor in tensors)).to(newest.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights[0])

    def __len__(self) -> int:
        return len(self._weights[0])


def mapped(function: Callable[..., Tensor], *weights: Weights) -> Weights:
    """`function` applied to the tensors of one name, in fp32, when that name is read.

    Integer and boolean tensors are taken from the last of `weights`. Raises ValueError unless all have one layout.
    """
    check_same_layout(*weights)
    return _Mapped(function, weights)


def check_same_layout(*weights: Weights) -> None:
    """Raises ValueError naming the first tensor by which the layouts differ."""
    first = {name: tuple(first_tensor.shape) for name, first_tensor in weights[0].items()}
    for other in weights[1:]:
        odd = sorted(first.keys() ^ other.keys())
        if odd:
            raise ValueError(
                f"cannot combine weights of different models: {odd[0]!r} is in only one of them "
                f"({len(odd)} such tensors); merge checkpoints of one backbone"
            )
        for name, shape in first.items():
            if tuple(other[name].shape) != shape:
                raise ValueError(
                    f"cannot combine weights of different models: {name!r} has shape {shape} in one "
                    f"and {tuple(other[name].shape)} in another; merge checkpoints of one backbone"
                )


def write_safetensors(weights: Weights, path: Path) -> None:
    """Write `weights` in name order, one tensor in memory at a time; equal weights give equal bytes."""
    header, layout = header_of({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in weights.items()})
    with open(path, "wb") as file:
        file.write(header)
        for name in layout:
            flat = weights[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)
