"""The policies of the pretraining pool."""

import numpy as np
import pytest

from data_catalog.draws import PoolRows
from data_catalog.pools import ClipScoreFiltered, DatasetBalanced, Subset, Uniform, Weighted
from data_catalog.seeds import rng

SIZES = (100, 30, 10)
ROWS = PoolRows(np.full(140, -1), np.repeat([0, 1, 2], SIZES), ("A", "B", "C"), score=rng(0).random(140))
KINDS = [Uniform(), DatasetBalanced(), Weighted(shares={"A": 0.2, "B": 0.8, "C": 0}), Subset(size=25),
         ClipScoreFiltered(share=0.5)]  # fmt: skip


def per_dataset(pool, count):
    return np.bincount(ROWS.dataset[pool.draw(ROWS, count, count, 3, 0, "pretraining")], minlength=3)


@pytest.mark.parametrize("pool", KINDS, ids=lambda pool: pool.kind)
def test_draws_repeat_exactly_and_change_with_the_step(pool):
    one = pool.draw(ROWS, 100, 120, 3, 0, "pretraining")
    assert (one == pool.draw(ROWS, 100, 120, 3, 0, "pretraining")).all()
    assert (one != pool.draw(ROWS, 100, 120, 4, 0, "pretraining")).any()


def test_uniform_is_uniform_over_samples():
    assert per_dataset(Uniform(), 1400).tolist() == [1000, 300, 100]


def test_datasets_balanced_or_as_weighted():
    assert per_dataset(DatasetBalanced(), 300).tolist() == [100, 100, 100]
    assert (np.abs(per_dataset(Weighted(shares={"A": 0.2, "B": 0.8, "C": 0}), 500) - [100, 400, 0]) <= 1).all()


def test_shares_must_fit_the_pool_and_sum_to_one():
    with pytest.raises(ValueError, match=r"sum to 0\.900, expected 1"):
        Weighted(shares={"A": 0.9})
    with pytest.raises(
        ValueError, match=r"has shares for \['A', 'D'\], but the pretraining pool holds \['A', 'B', 'C'\]"
    ):
        per_dataset(Weighted(shares={"A": 0.5, "D": 0.5}), 10)


def test_a_subset_is_the_same_at_every_step_and_another_for_another_seed():
    drawn = [
        set(Subset(size=25).draw(ROWS, 200, 200, step, seed, "pretraining")) for step, seed in ((0, 0), (5, 0), (0, 1))
    ]
    assert len(drawn[0]) == 25 and drawn[0] == drawn[1] != drawn[2]


def test_a_subset_larger_than_the_pool_is_an_error():
    with pytest.raises(ValueError, match="to have 141 samples, but the pretraining pool has 140"):
        Subset(size=141).kept(ROWS, 0)


def test_the_best_half_of_each_dataset():
    assert (per_dataset(ClipScoreFiltered(share=0.5), 700) == [500, 150, 50]).all()
