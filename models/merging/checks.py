"""What a merge is refused for before a value is read: the plan and the merge itself ask here, so they say the same."""

from collections.abc import Iterable

import torch

from models.merging.technique import Technique
from models.towers import layers_of


def check_device(device: str) -> None:
    """Raises ValueError for a device that is not there."""
    there = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    if device not in there:
        raise ValueError(f"`device` is {device}, expected {' or '.join(there)}")


def check_experts(technique: Technique, count: int) -> None:
    """Raises ValueError unless `technique` merges `count` experts, and has a weight for each."""
    if technique.takes() not in (None, count) and count != 1:
        raise ValueError(
            f"`{technique.kind}` merges {technique.takes()} experts{' with `paper`' if technique.paper else ''}, "
            f"found {count}"
        )
    technique.shares(count)


def blocks_for_lines(technique: Technique, names: Iterable[str]) -> dict[str, int]:
    """How many blocks each tower of the tensors `names` has, where `lines` gives them lengths; else nothing.

    Raises ValueError where no blocks are found at all: `lines` would be one length for everything.
    """
    if getattr(technique, "lines", None) is None:
        return {}
    places = layers_of(names)
    blocks = {tower: last - 1 for tower, _, last in places.values() if tower != "shared"}
    if not any(blocks.values()):
        raise ValueError(
            "`lines` gives each block of a tower a length, but no names of blocks are found: there are "
            f"{', '.join(map(repr, list(places)[:3]))}; leave `lines` out, or name tensors as OpenCLIP or Hugging Face"
        )
    return blocks
