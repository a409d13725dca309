"""The search by blocks finds what comparing all with all finds."""

import time

import numpy as np
import pytest

from data_catalog.components import Components
from data_catalog.hamming import block_masks, choose_agreeing, close_components


def hashes(count, seed=0):
    """Random hashes, a tenth of them a few flipped bits away from another one."""
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 2**64, count, dtype=np.uint64)
    for _ in range(3):
        made[: count // 10] = made[-(count // 10) :] ^ (np.uint64(1) << rng.integers(0, 64, count // 10, np.uint64))
    return made


def crowded(count, seed=0):
    """Hashes that share all but twelve bits, so that every bucket is long."""
    return np.random.default_rng(seed).integers(0, 2**12, count, dtype=np.uint64) << np.uint64(20)


def by_brute_force(values, distance):
    components = Components(len(values))
    components.join(*np.nonzero(np.bitwise_count(values[:, None] ^ values[None]) <= distance))
    return components.labels


def same_partition(left, right):
    pairs = len(np.unique(np.stack([left, right]), axis=1).T)
    return pairs == len(np.unique(left)) == len(np.unique(right))


@pytest.mark.parametrize("distance", [0, 1, 2, 4, 8, 12])
@pytest.mark.parametrize("make", [hashes, crowded])
def test_blocks_find_what_comparing_all_with_all_finds(make, distance):
    values = make(800, seed=distance)
    assert same_partition(close_components(values, distance), by_brute_force(values, distance))


def test_the_order_of_the_hashes_does_not_matter():
    values, order = hashes(500), np.random.default_rng(1).permutation(500)
    assert same_partition(close_components(values, 4)[order], close_components(values[order], 4))


@pytest.mark.parametrize("distance, agreeing", [(1, 1), (4, 2), (8, 3)])
def test_some_blocks_agree_whatever_bits_differ(distance, agreeing):
    masks = np.array(block_masks(distance, agreeing))
    for seed in range(50):
        bits = np.random.default_rng(seed).choice(64, distance, replace=False).astype(np.uint64)
        changed = np.bitwise_or.reduce(np.uint64(1) << bits)
        assert ((masks & changed) == 0).any()


def test_more_hashes_are_compared_in_smaller_buckets():
    assert choose_agreeing(1_000, 4) < choose_agreeing(2_500_000, 4)


def test_equal_hashes_cost_no_more_than_one():
    assert len(np.unique(close_components(np.full(1_000_000, 7, np.uint64), 4))) == 1


def test_progress_ends_with_all_blocks():
    told = []
    close_components(hashes(100), 4, lambda *report: told.append(report))
    assert told[-1][0] == told[-1][1] == len(told)


def test_two_hundred_thousand_hashes_take_about_a_second():
    values, started = hashes(200_000), time.process_time()
    close_components(values, 4)
    assert time.process_time() - started < 5  # 0.3 s on an idle core
