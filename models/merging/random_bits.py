"""Random numbers that depend on (seed, tensor, expert, position) alone, so that parts of any length draw the same.

A stream of PCG64 (O'Neill 2014, "PCG: a family of simple fast space-efficient statistically good algorithms for random
number generation") per tensor and expert, moved to where a part starts.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

_AT_ONCE = 1 << 18  # numbers that fit into a core's cache


def random_bits(seed: int, name: str, expert: int, start: int, count: int) -> Tensor:
    """`count` independent uniform integers of 31 bits, int32, for the values of a tensor from `start` on."""
    key = int.from_bytes(hashlib.sha256(repr((seed, name, expert)).encode()).digest()[:16], "little")
    first, skipped = divmod(start, 2)  # two numbers in a draw of 64 bits
    source = np.random.PCG64DXSM(key).advance(first)
    drawn = np.empty(skipped + count + 1, np.int32)
    for at in range(0, skipped + count, _AT_ONCE):
        draws = (min(_AT_ONCE, skipped + count - at) + 1) // 2
        np.bitwise_and(source.random_raw(draws).view(np.int32), 0x7FFFFFFF, out=drawn[at : at + 2 * draws])
    return torch.from_numpy(drawn[skipped : skipped + count])
