"""Adapters of peft folded into weights by the names of tensors alone, without building the model they belong to.

LoRA (arXiv 2106.09685), DoRA (2402.09353) and VeRA (2310.11454). A place is a Linear, or one third of packed attention.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from models.adapters.travel import Adapter
from models.tensor_files import Entry

_TINY = torch.finfo(torch.float32).tiny


class Folded(Mapping[str, Tensor]):
    """`base` with `adapter` in it, one tensor at a time; raises ValueError for places that `base` does not have."""

    def __init__(self, base: Mapping[str, Tensor], layout: Mapping[str, Entry], adapter: Adapter):
        self._base, self._adapter = base, adapter
        self._places: dict[str, list[tuple[str, slice]]] = {}  # tensor -> places in it, with their rows
        for place, parts in adapter.places.items():
            name, rows = _where(place, layout)
            self._places.setdefault(name, []).append((place, rows))
            _check_shapes(place, parts, adapter, (rows.stop - rows.start, layout[name].shape[1]))

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._base[name]
        if name not in self._places:
            return tensor
        changed = tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
        for place, rows in self._places[name]:
            changed[rows] = _changed(changed[rows], self._adapter, self._adapter.places[place])
        return changed.to(tensor.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)


def _where(place: str, layout: Mapping[str, Entry]) -> tuple[str, slice]:
    """The matrix that `place` is, or is a part of, and which of its rows."""
    around, _, last = place.rpartition(".")
    packed = around.rpartition(".")[2]
    candidates = [(f"{place}.weight", last, last), (f"{around}.in_proj_weight", "qkv", last[:1])]
    if packed in ("qkv", "kv"):
        candidates.append((f"{around}.weight", packed, last[:1]))
    for name, parts, part in candidates:
        if name in layout and len(layout[name].shape) == 2:
            if parts == part:
                return name, slice(0, layout[name].shape[0])
            if last.endswith("_proj") and part in parts:
                size = layout[name].shape[0] // len(parts)
                return name, slice(parts.index(part) * size, (parts.index(part) + 1) * size)
    raise ValueError(
        f"the adapter changes {place!r}, and the base has no matrix of that name: give the base that the adapter was "
        "trained on, or fold it there with peft's `merge_and_unload`"
    )


def _check_shapes(place: str, parts: Mapping[str, Tensor], adapter: Adapter, wanted: tuple[int, int]) -> None:
    if adapter.random is not None:
        expected, found = {"vera_lambda_d", "vera_lambda_b"}, (len(parts.get("vera_lambda_b", ())), wanted[1])
    else:
        expected = {"lora_A", "lora_B"} | ({"magnitude"} & parts.keys())
        found = (len(parts.get("lora_B", ())), parts["lora_A"].shape[-1] if "lora_A" in parts else 0)
    if parts.keys() != expected:
        raise ValueError(f"the adapter has {sorted(parts)} at {place!r}, expected {sorted(expected)}")
    if found != wanted:
        raise ValueError(
            f"the adapter is for {list(found)} at {place!r}, the base has {list(wanted)} there: another backbone"
        )


def _changed(frozen: Tensor, adapter: Adapter, parts: Mapping[str, Tensor]) -> Tensor:
    if adapter.random is not None:
        a, b = adapter.random[0][:, : frozen.shape[1]], adapter.random[1][: frozen.shape[0]]
        return frozen + (parts["vera_lambda_b"][:, None] * b) @ (parts["vera_lambda_d"][:, None] * a)
    moved = frozen + parts["lora_B"] @ parts["lora_A"]
    if "magnitude" not in parts:
        return moved
    norm = moved.square().sum(1).clamp(min=_TINY).sqrt()
    return (parts["magnitude"] / norm)[:, None] * moved
