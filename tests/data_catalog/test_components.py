"""Nodes that pairs connect share the smallest label."""

import numpy as np
import pytest

from data_catalog.components import Components


def test_nothing_joined_is_all_apart():
    assert Components(3).labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_a_chain_in_any_order_is_one_component(seed):
    components, order = Components(1000), np.random.default_rng(seed).permutation(999)
    components.join(order, order + 1)
    assert not components.labels.any()


def test_pairs_one_at_a_time_join_as_all_at_once():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 300, (2, 150))
    whole, piecewise = Components(300), Components(300)
    whole.join(left, right)
    for a, b in zip(left, right, strict=True):
        piecewise.join(np.array([b]), np.array([a]))
    assert np.array_equal(whole.labels, piecewise.labels)


def test_together_says_what_is_joined():
    components = Components(4)
    components.join(np.array([0, 2]), np.array([1, 3]))
    assert components.together(np.array([0, 0]), np.array([1, 2])).tolist() == [True, False]
