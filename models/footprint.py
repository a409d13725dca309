"""What a step will write to the disk, foretold before it begins, so that it does not stop for want of room."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from models.unfinished import KEPT

MOMENTS = 8  # bytes per trained weight that AdamW keeps; no optimizer here keeps more


class Footprint(NamedTuple):
    """Bytes of one step."""

    peak: int  # at once, with the states of the unfinished update
    left: int  # that stay: the expert, its merge, snapshots and what the method remembers


def footprint(state: Mapping[str, Any], trained: int, weights: int, snapshots: int, remembers: bool) -> Footprint:
    """Of a step whose unfinished state is `state` before the first iteration, in which `trained` weights move.

    `weights`: bytes of the checkpoint it starts from; `snapshots`: how many are stored inside it.
    """
    saved = tensor_bytes(state) + MOMENTS * trained
    left = (2 + snapshots + remembers) * weights
    return Footprint(peak=(KEPT + 1) * saved + left, left=left)  # a state is written before the oldest one goes


def tensor_bytes(value: Any) -> int:
    """The bytes of all tensors in nested mappings and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(tensor_bytes, value.values()))
    is_many = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    return sum(map(tensor_bytes, value)) if is_many else 0
