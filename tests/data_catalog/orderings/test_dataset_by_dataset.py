"""One dataset after the other."""

from itertools import groupby

import pytest

from data_catalog.orderings.base import Concept
from data_catalog.orderings.dataset_by_dataset import DatasetByDataset
from data_catalog.seeds import rng

CONCEPTS = [Concept(dataset, f"{i}") for dataset in ("B", "A", "OXFORDPETS", "C") for i in range(9)]


def visits(ordering, seed=0):
    return [dataset for dataset, _ in groupby(concept.dataset for concept in ordering.order(CONCEPTS, rng(seed)))]


def test_no_dataset_is_left_and_visited_again():
    assert sorted(visits(DatasetByDataset())) == ["A", "B", "C", "OXFORDPETS"]
    assert len({tuple(visits(DatasetByDataset(), seed)) for seed in range(9)}) > 1


def test_the_datasets_by_name_or_as_listed():
    assert visits(DatasetByDataset(datasets="alphabetical")) == ["A", "B", "C", "OXFORDPETS"]
    assert visits(DatasetByDataset(datasets=("C", "oxford_pets"))) == ["C", "OXFORDPETS"]


@pytest.mark.parametrize("names, message", [(("C", "D"), "dataset 'D', which has no training samples"),
                                            (("C", "A", "C"), "names dataset C more than once")])  # fmt: skip
def test_wrong_names_are_errors(names, message):
    with pytest.raises(ValueError, match=message):
        DatasetByDataset(datasets=names).order(CONCEPTS, rng(0))


def test_the_concepts_inside_are_shuffled():
    order = DatasetByDataset(datasets="alphabetical").order(CONCEPTS, rng(0))
    assert order[:9] != sorted(order[:9])
