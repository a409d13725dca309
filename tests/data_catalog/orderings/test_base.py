"""What all orderings share: a reverse, and an identity that does not depend on where files lie."""

import json

import pytest

from data_catalog.orderings import Chunked, DatasetByDataset, Frequency, FromFile, Random, Time
from data_catalog.orderings.base import Background, Concept
from data_catalog.seeds import rng

CONCEPTS = [Concept(dataset, f"{i}") for dataset in ("A", "B", "C") for i in range(7)]
BACKGROUND = Background(years={"A": 2010, "B": 2009, "C": 2010})


@pytest.mark.parametrize("make", [Random, Time, DatasetByDataset, lambda **f: Chunked(size=2, **f)])
def test_every_concept_arrives_once_and_reverse_is_exact(make):
    order = make().order(CONCEPTS, rng(0), BACKGROUND)
    assert sorted(order) == sorted(CONCEPTS)
    assert make(reverse=True).order(CONCEPTS, rng(0), BACKGROUND) == order[::-1]


@pytest.mark.parametrize("make", [Random, Time, DatasetByDataset, lambda **f: Chunked(size=2, **f)])
def test_the_order_of_the_concepts_given_does_not_matter(make):
    assert make().order(CONCEPTS[::-1], rng(0), BACKGROUND) == make().order(CONCEPTS, rng(0), BACKGROUND)


def test_a_moved_file_is_the_same_ordering_and_a_changed_one_is_not(tmp_path):
    def written(name, entry):
        (tmp_path / name).write_text(json.dumps([entry]))
        return FromFile(path=str(tmp_path / name))

    here, there, other = written("a.json", "A+++1"), written("b.json", "A+++1"), written("c.json", "A+++2")
    assert here.identity() == there.identity() != other.identity()
    assert here.identity() != here.model_copy(update={"reverse": True}).identity()


def test_a_corpus_is_told_by_its_content(tmp_path):
    for name, text in (("a.txt", "cat"), ("b.txt", "cat"), ("c.txt", "dog")):
        (tmp_path / name).write_text(text)
    a, b, c = (Frequency(corpus=str(tmp_path / f"{name}.txt")).identity() for name in "abc")
    assert a == b != c
