"""Arithmetic on whole checkpoints, one tensor at a time: a checkpoint is a mapping from names to tensors."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from models.tensor_files import header_of

Shapes = Mapping[str, tuple[int, ...]]
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
    """Raises ValueError naming the tensors and shapes by which the layouts differ."""
    first, *others = ({name: tuple(tensor.shape) for name, tensor in each.items()} for each in weights)
    for number, other in enumerate(others, 1):
        check_shapes(first, other, "the first weights", f"weights {number}")


def check_shapes(one: Shapes, other: Shapes, its_name: str, other_name: str) -> None:
    """Raises ValueError naming tensors and shapes by which two models differ, called as given."""
    odd = [
        *(f"{name!r} only in {its_name}" for name in sorted(one.keys() - other.keys())),
        *(f"{name!r} only in {other_name}" for name in sorted(other.keys() - one.keys())),
        *(f"{name!r} {list(one[name])} and {list(other[name])}" for name in sorted(one.keys() & other.keys())
          if one[name] != other[name]),
    ]  # fmt: skip
    if odd:
        more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
        raise ValueError(
            f"{its_name} and {other_name} are weights of different models: {'; '.join(odd[:4])}{more}; "
            "give checkpoints of one backbone"
        )


def write_safetensors(weights: Weights, path: Path) -> None:
    """Write `weights` in name order, one tensor in memory at a time; equal weights give equal bytes."""
    header, layout = header_of({name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in weights.items()})
    with open(path, "wb") as file:
        file.write(header)
        for name in layout:
            flat = weights[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)
