"""Concepts of a dataset in chunks."""

from itertools import groupby

from data_catalog.orderings.base import Concept
from data_catalog.orderings.chunked import Chunked
from data_catalog.seeds import rng

CONCEPTS = [Concept("A", f"{i}") for i in range(8)] + [Concept("B", f"{i}") for i in range(3)]


def test_chunks_stay_together():
    order = Chunked(size=4).order(CONCEPTS, rng(0))
    runs = [len(list(run)) for _, run in groupby(concept.dataset for concept in order)]
    assert sum(runs) == 11 and set(runs) <= {3, 4, 8}


def test_round_robin_takes_one_chunk_of_each_in_turn():
    order = Chunked(size=2, chunks="round_robin").order(CONCEPTS, rng(0))
    assert "".join(concept.dataset for concept in order) == "AABBAABAAAA"


def test_the_chunks_are_made_at_random():
    first, other = (Chunked(size=4, chunks="round_robin").order(CONCEPTS, rng(seed))[:4] for seed in (0, 1))
    assert set(first) != set(other)
