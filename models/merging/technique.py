"""What every merging technique is: how runs of values of experts become one, and what must be known of all before.

Experts are given oldest first where their order matters. Nothing is remembered between merges.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field, field_validator
from torch import Tensor

from data_catalog.refs import Spec
from models.merging.lines import Lines
from models.merging.parts import Part
from models.merging.ranks import key_bits, magnitude, magnitude_keys
from models.merging.recency import Recency, shares_of
from models.weights import Weights


class Patch(NamedTuple):
    """Values of a tensor that depend on what is known only after the last part."""

    name: str
    positions: Tensor  # in the flat tensor
    positive: Tensor  # where the majority is positive
    negative: Tensor


@dataclass
class Found:
    """What is known of the inputs of one merge before its parts are combined, and counts made meanwhile."""

    experts: int
    seed: int = 0
    layers: Mapping[str, tuple[str, int, int]] = field(default_factory=dict)  # tensor -> tower, layer, last layer
    drawn_as: Mapping[str, str] = field(default_factory=dict)  # tied tensor -> the one whose random numbers it has
    thresholds: dict[str, list[list[float]]] = field(default_factory=dict)  # half -> per expert the values at `ranks`
    signs: dict[str, int] = field(default_factory=dict)  # half -> sum of the elected signs
    cancelled: dict[str, int] = field(default_factory=dict)  # half -> values without an elected sign though some moved
    patches: dict[str, list[Patch]] = field(default_factory=dict)  # half -> what those would become, if they are few
    lock: Any = field(default_factory=Lock)  # for what is counted while parts are combined
    majority: dict[str, int] = field(default_factory=dict)  # half -> the sign that those take


class Technique(Spec):
    """A way to combine experts around the weights they started from."""

    USES_BASE: ClassVar[bool] = True
    USES_RANDOM: ClassVar[bool] = False
    USES_STATISTICS: ClassVar[str | None] = None  # kind of the statistics each expert must bring
    BY_ROW: ClassVar[bool] = False  # whether it goes over the experts of a part, never looks at all of them at once
    WHOLE: ClassVar[bool] = False  # whether a tensor with statistics must come in one part
    EXPERTS: ClassVar[int | None] = None  # how many it takes; none: one or more

    kind: str
    weights: tuple[float, ...] | Recency | None = None  # per expert, or a scheme, oldest expert first; null: all alike
    paper: bool = False  # what was published also where it is a defect

    @field_validator("weights")
    @classmethod
    def _sum_to_one(cls, weights: object) -> object:
        if isinstance(weights, tuple) and abs(sum(weights) - 1) > 1e-6:
            raise ValueError(f"merge weights {list(weights)} sum to {sum(weights):.6f}, expected 1; adjust `weights`")
        return weights

    def needs_base(self) -> bool:
        """Whether the origin of task vectors matters to the result."""
        return self.USES_BASE

    def takes(self) -> int | None:
        """How many experts it merges; None: any number."""
        return self.EXPERTS

    def keeps_one(self) -> bool:
        """Whether a single expert comes out as it is."""
        return not self.needs_base() and self.USES_STATISTICS is None

    def shares(self, experts: int) -> tuple[float, ...]:
        """The weight of each of `experts`, summing to 1; raises ValueError for weights of another number."""
        return shares_of(self.weights, experts)

    def ranks(self, count: int) -> tuple[int, ...]:
        """Which of the `count` magnitudes of a task vector's half must be known, 1-based from the smallest."""
        return ()

    def rank_keys(self, part: Part, expert: int, found: Found) -> Tensor:
        """The non-negative integers of one expert that are ranked: the magnitudes of its task vector."""
        return magnitude_keys(part.experts[expert].sub_(part.base))

    def key_bits(self, dtype: torch.dtype) -> int:
        """How many bits those integers have where the arithmetic is in `dtype`."""
        return key_bits(dtype)

    def threshold(self, key: int, bits: int) -> float:
        """The value that a ranked integer stands for: a magnitude."""
        return magnitude(key, bits)

    def combine(self, part: Part, found: Found) -> Tensor:
        """The merged values [size] of a part, whose memory may be used."""
        raise NotImplementedError

    def gain(self, experts: int) -> float:
        """How many times the length of equal task vectors the merged one has, the most over its layers."""
        return 1.0

    def gain_beside_base(self) -> float:
        """How many times its length the task vector of one expert has when it is merged with what has not moved."""
        return 1.0

    def merge(self, base: Weights, experts: Sequence[Weights], seed: int = 0, newest: int = -1) -> dict[str, Tensor]:
        """One set of weights out of `experts` in memory, as `merge_files` does on disk; no argument is changed."""
        from models.merging.engine import merge_in_memory

        return merge_in_memory(self, base, experts, seed, newest)


class TaskVectorTechnique(Technique):
    """A technique on task vectors: what experts have become, minus what they started from."""

    scale: float = 1.0  # length of the merged task vector
    lines: Lines | None = None  # in place of `scale`, a length per layer

    def vectors(self, part: Part, found: Found) -> Iterator[Tensor]:
        """Each task vector [size], pruned, in the memory of the expert."""
        for expert, row in enumerate(part.experts):
            self.prune(row.sub_(part.base), expert, part, found)
            yield row

    def weighed(self, part: Part, found: Found) -> Iterator[Tensor]:
        """Each of `vectors` times its weight over the mean weight."""
        for row, factor in zip(self.vectors(part, found), self.factors(len(part.experts)), strict=True):
            yield row if factor == 1 else row.mul_(factor)

    def factors(self, experts: int) -> list[float]:
        """The weight of each expert over the mean weight: 1 where all count alike."""
        return [1.0] * experts if self.weights is None else [share * experts for share in self.shares(experts)]

    def prune(self, vector: Tensor, expert: int, part: Part, found: Found) -> None:
        """Take out of the task vector of one expert, in place, what the technique does not merge; here nothing."""

    def onto(self, part: Part, merged: Tensor, found: Found) -> Tensor:
        """The base with the merged task vector at its length; changes `merged`."""
        return merged.mul_(self.length(part.name, found)).add_(part.base)

    def length(self, name: str, found: Found) -> float:
        """The factor on the merged task vector of a tensor."""
        return self.scale if self.lines is None else self.lines.factor(found.layers[name])

    def gain(self, experts: int) -> float:
        """The scale, or the largest of the layers', times what the technique itself makes of equal vectors."""
        return self.own_gain(experts) * abs(self.scale if self.lines is None else self.lines.largest)

    def gain_beside_base(self) -> float:
        """That of one expert."""
        return self.gain(1)

    def own_gain(self, experts: int) -> float:
        """How many times the length of equal task vectors the merged one has at scale 1."""
        return 1.0


class Summing(TaskVectorTechnique):
    """A technique that adds up what is left of the task vectors."""

    BY_ROW: ClassVar[bool] = True

    def own_gain(self, experts: int) -> float:
        """As many times as there are experts."""
        return float(experts)

    def gain_beside_base(self) -> float:
        """That of one expert, times its weight."""
        return self.gain(1) * self.factors(2)[0]

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the scaled sum."""
        return self.onto(part, total(self.weighed(part, found)), found)


class Choosing(TaskVectorTechnique):
    """A technique in which weights say whose entries are taken, not how long they are."""

    @field_validator("weights")
    @classmethod
    def _not_negative(cls, weights: object) -> object:
        if isinstance(weights, tuple) and min(weights) < 0:
            raise ValueError(f"merge weights {list(weights)} choose among experts, so none can be below 0")
        return weights


def total(rows: Iterable[Tensor]) -> Tensor:
    """The sum of `rows`, in memory of its own, one row after the other, so that its bits depend on nothing else."""
    remaining = iter(rows)
    result = next(remaining).clone()
    for row in remaining:
        result.add_(row)
    return result


def keep_from(row: Tensor, threshold: float) -> None:
    """Set what is smaller in magnitude than `threshold` to 0, in place."""
    below = torch.nextafter(torch.tensor(threshold, dtype=row.dtype), torch.tensor(0.0, dtype=row.dtype))
    if threshold > 0:
        torch.hardshrink(row, float(below), out=row)


def density_field(default: float) -> float:
    """The share of each task vector that is kept."""
    return Field(default, gt=0, le=1)


def dropped(count: int, density: float) -> int:
    """How many of `count` values go at a density; free of the rounding of 1 - density."""
    return int(count * round(1 - density, 12))
