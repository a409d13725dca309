"""One independent random generator per named decision, so that no decision disturbs another."""

from hashlib import sha256

import numpy as np


def seed_of(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one decision, for generators that are not NumPy's."""
    return int.from_bytes(sha256(repr((seed, *path)).encode()).digest()[:8], "big") >> 1


def rng(seed: int, *path: str | int) -> np.random.Generator:
    """An independent generator for one decision, e.g. rng(config.seed, "buffer", step)."""
    return np.random.default_rng(int.from_bytes(sha256(repr((seed, *path)).encode()).digest()[:8], "big"))
