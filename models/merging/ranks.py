"""Exact order statistics of billions of numbers in constant memory: the k-th smallest, by counting bits.

The bits of non-negative floats order as the floats do. Each pass over the inputs counts the next 16 bits of those that
agree with what is known of the wanted value, so fp32 takes two passes and fp64 four, whatever the number of values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from torch import Tensor

_BITS = 16  # of a pass
_FEW = 1 << 18  # keys: to count fewer costs more for the bins than for the keys
_INTEGERS = {torch.float32: (torch.int32, 31), torch.float64: (torch.int64, 63)}
_FLOATS = {31: (np.int32, np.float32), 63: (np.int64, np.float64)}


@dataclass
class _Wanted:
    rank: int  # 1-based, among those that agree with the prefix
    prefix: int = 0
    counts: Tensor | None = None


@dataclass
class Selection:
    """The values at some ranks of several rows, found while their values pass by again and again."""

    ranks: Sequence[Sequence[int]]  # per row, 1-based from the smallest
    bits: int  # of a key
    known: int = 0  # bits that former passes found

    def __post_init__(self) -> None:
        self._wanted = [[_Wanted(rank) for rank in ranks] for ranks in self.ranks]
        self._waiting: list[list[Tensor]] = [[] for _ in self.ranks]  # keys that are few: to be counted together
        self._lock = Lock()

    @staticmethod
    def passes(bits: int) -> int:
        """How often all keys of so many bits must be seen."""
        return -(-bits // _BITS)

    @staticmethod
    def bytes_of(ranks: int, rows: int, values: int, itemsize: int) -> int:
        """The memory for so many ranks of each of `rows` of `values` keys: counts, and keys that wait."""
        return rows * (ranks * (8 << _BITS) + min(_FEW, values) * itemsize)

    def see(self, row: int, keys: Tensor) -> None:
        """Count `keys`, non-negative integers of row `row`, from any thread."""
        if len(keys) < _FEW:
            with self._lock:
                self._waiting[row].append(keys.clone())
                if sum(map(len, self._waiting[row])) < _FEW:
                    return
                keys, self._waiting[row] = torch.cat(self._waiting[row]), []
        self._count(row, keys)

    def _count(self, row: int, keys: Tensor) -> None:
        rest = self.bits - self.known
        taken = min(_BITS, rest)
        for prefix in {wanted.prefix for wanted in self._wanted[row]}:
            counts = _counted(keys, prefix, rest, taken, is_first=not self.known)
            with self._lock:
                for wanted in self._wanted[row]:
                    if wanted.prefix == prefix:
                        wanted.counts = counts.clone() if wanted.counts is None else wanted.counts.add_(counts)

    def end_pass(self) -> None:
        """All values have been seen once more."""
        for row, keys in enumerate(self._waiting):
            if keys:
                self._count(row, torch.cat(keys))
                self._waiting[row] = []
        taken = min(_BITS, self.bits - self.known)
        for wanted in (w for row in self._wanted for w in row):
            below = torch.cumsum(wanted.counts, 0)
            digit = int(torch.searchsorted(below, wanted.rank))
            wanted.rank -= int(below[digit - 1]) if digit else 0
            wanted.prefix, wanted.counts = wanted.prefix << taken | digit, None
        self.known += taken

    def found(self) -> list[list[int]]:
        """Per row, the keys at its ranks."""
        return [[w.prefix for w in row] for row in self._wanted]


def _counted(keys: Tensor, prefix: int, rest: int, taken: int, is_first: bool) -> Tensor:
    """How often each value of the next `taken` bits occurs among `keys` whose bits above `rest` are `prefix`."""
    if is_first:
        return torch.bincount(keys >> (rest - taken), minlength=1 << taken)
    # keys outside are moved into one bin below and one above, which is faster than to leave them out
    first, bin_size = prefix << rest, 1 << (rest - taken)
    beyond = min(first + (1 << rest), torch.iinfo(keys.dtype).max)
    digits = keys.clamp(first - bin_size, beyond).sub_(first - bin_size).bitwise_right_shift_(rest - taken)
    return torch.bincount(digits, minlength=(1 << taken) + 2)[1 : (1 << taken) + 1]


def magnitude_keys(values: Tensor) -> Tensor:
    """Integers in the order of the magnitudes of `values`, which are changed in place."""
    return values.abs_().view(_INTEGERS[values.dtype][0])


def magnitude(key: int, bits: int) -> float:
    """The magnitude that a key of `magnitude_keys` stands for."""
    integer, floating = _FLOATS[bits]
    return float(integer(key).view(floating))


def key_bits(dtype: torch.dtype) -> int:
    """How many bits a key of `magnitude_keys` has."""
    return _INTEGERS[dtype][1]
