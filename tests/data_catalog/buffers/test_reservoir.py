"""The reservoir, against Algorithm R kept along the stream."""

import numpy as np
import pytest

from data_catalog.buffers.reservoir import Reservoir
from data_catalog.draws import PoolRows
from data_catalog.seeds import rng


def held(size, seen, seed=0):
    return Reservoir(size=size).kept(PoolRows(np.zeros(seen, int), np.zeros(seen, int), ("A",)), seed).tolist()


def algorithm_r(size, seen, seed):
    luck, slots = rng(seed, "reservoir").random(seen), []
    for i in range(seen):
        if i < size:
            slots.append(i)
        elif (place := int(luck[i] * (i + 1))) < size:
            slots[place] = i
    return sorted(slots)


@pytest.mark.parametrize("seen", [1, 9, 10, 11, 500])
def test_it_is_algorithm_r(seen):
    assert held(10, seen) == algorithm_r(10, seen, 0)


def test_what_was_pushed_out_never_comes_back():
    earlier = set(range(20))
    for seen in range(20, 400, 7):
        now = set(held(20, seen))
        assert len(now) == 20 and not (now - earlier) & set(range(seen - 7 if seen > 20 else 0))
        earlier = now


def test_every_sample_is_held_equally_often():
    kept = np.bincount(np.concatenate([held(10, 50, seed) for seed in range(3000)]), minlength=50) / 3000
    assert np.abs(kept - 0.2).max() < 0.04  # five standard deviations
