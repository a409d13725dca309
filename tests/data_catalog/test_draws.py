"""How samples are drawn from a pool: shares, repetitions and what the draws depend on."""

import numpy as np
import pytest

from data_catalog.draws import PoolRows, best_scored, by_first_appearance, draw, draw_weighted, interleaved
from data_catalog.seeds import rng


@pytest.mark.parametrize("pool_size", [1, 7, 100])
def test_a_full_pass_shows_every_sample_equally_often(pool_size):
    counts = np.bincount(draw(pool_size, 60, 60, 0, 1, "update"), minlength=pool_size)
    assert counts.max() - counts.min() <= 1 and counts.sum() == 60


def test_draws_differ_by_step_and_pool_and_repeat_exactly():
    one = draw(50, 20, 50, 0, 1, "update")
    assert (one == draw(50, 20, 50, 0, 1, "update")).all()
    assert (one != draw(50, 20, 50, 0, 2, "update")).any() and (one != draw(50, 20, 50, 0, 1, "buffer")).any()


@pytest.mark.parametrize("count", [1, 10, 333, 5000])
def test_weighted_draws_are_fair_to_one_draw_per_row_and_per_group(count):
    generator = rng(count)
    weights, groups = generator.random(200) ** 3, generator.integers(0, 9, 200)
    drawn = np.bincount(draw_weighted(weights, groups, count, generator), minlength=200)
    fair = weights / weights.sum() * count
    assert drawn.sum() == count and (np.abs(drawn - fair) < 1).all()
    assert (np.abs(np.bincount(groups, drawn) - np.bincount(groups, fair)) < 1 + 1e-6).all()


def test_weighted_draws_are_unbiased():
    weights, groups = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 1, 0, 1])
    drawn = [draw_weighted(weights, groups, 3, rng(seed)) for seed in range(2000)]
    shares = np.bincount(np.concatenate(drawn), minlength=4) / 6000
    assert np.abs(shares - weights / 10).max() < 0.015


def test_the_order_of_weighted_draws_is_random():
    drawn = draw_weighted(np.ones(1000), np.arange(1000) // 500, 1000, rng(0))
    assert sorted(drawn) == list(range(1000)) and 400 < (drawn[:500] < 500).sum() * 2 < 600


def test_only_the_classes_of_groups_matter_not_their_numbers():
    weights, groups = rng(0).random(50), rng(1).integers(0, 5, 50)
    renamed = np.array([7, 0, 93, -1, 4])[groups]
    assert (draw_weighted(weights, groups, 30, rng(2)) == draw_weighted(weights, renamed, 30, rng(2))).all()
    assert by_first_appearance(np.array([5, 5, -1, 5, 0])).tolist() == [0, 0, 1, 0, 2]


def test_a_pool_without_weight_is_an_error():
    with pytest.raises(ValueError, match="all 3 rows of the pool have the weight 0"):
        draw_weighted(np.zeros(3), np.zeros(3), 2, rng(0))


def test_the_best_share_is_taken_of_each_dataset():
    scores = np.array([0.1, 0.9, 0.5, 0.5, 0.3, 0.2, np.float32(0.7)])
    rows = PoolRows(np.zeros(7, int), np.array([0, 0, 0, 0, 1, 1, 2]), ("A", "B", "C"), score=scores)
    assert best_scored(rows, 0.5).tolist() == [1, 2, 4, 6]
    assert best_scored(rows, 1).tolist() == list(range(7))


def test_a_missing_score_is_an_error_that_names_a_dataset():
    rows = PoolRows(np.zeros(2, int), np.array([0, 1]), ("A", "B"), score=np.array([0.5, np.nan]))
    with pytest.raises(ValueError, match="1 of 2 samples have no CLIP score, first one of B"):
        best_scored(rows, 0.5)


def test_batches_hold_the_parts_in_order():
    assert interleaved([np.array([1, 2, 3, 4]), np.array([8, 9])], 2).tolist() == [1, 2, 8, 3, 4, 9]
