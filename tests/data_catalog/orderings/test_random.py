"""The random ordering."""

from data_catalog.orderings.base import Concept
from data_catalog.orderings.random import Random
from data_catalog.seeds import rng

CONCEPTS = [Concept("A", str(i)) for i in range(20)]


def test_it_depends_on_the_set_and_the_seed_alone():
    order = Random().order(CONCEPTS, rng(0, "ordering"))
    assert order == Random().order(CONCEPTS[::-1], rng(0, "ordering"))
    assert order != Random().order(CONCEPTS, rng(1, "ordering"))
    assert sorted(order) == sorted(CONCEPTS)
