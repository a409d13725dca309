"""Datasets by year."""

from itertools import groupby

import pytest

from data_catalog.orderings.base import Background, Concept
from data_catalog.orderings.time import Time
from data_catalog.seeds import rng

CONCEPTS = [Concept(dataset, f"{i}") for dataset in ("NEW", "OLD", "ALSO_OLD") for i in range(9)]
KNOWN = Background(years={"NEW": 2020, "OLD": 2011, "ALSO_OLD": 2011})


def visits(order):
    return [dataset for dataset, _ in groupby(concept.dataset for concept in order)]


def test_the_datasets_of_a_year_are_mixed_and_the_newest_comes_last():
    order = Time().order(CONCEPTS, rng(0), KNOWN)
    assert {concept.dataset for concept in order[-9:]} == {"NEW"} and len(visits(order[:18])) > 2


def test_dataset_by_dataset_inside_a_year():
    order = Time(inside="by_dataset").order(CONCEPTS, rng(0), KNOWN)
    assert visits(order) == ["ALSO_OLD", "OLD", "NEW"]
    assert order[:9] != sorted(order[:9])


def test_a_year_of_the_config_goes_before_that_of_the_facts():
    assert visits(Time(years={"NEW": 1999}).order(CONCEPTS, rng(0), KNOWN))[0] == "NEW"


def test_missing_and_surplus_years_are_errors():
    with pytest.raises(ValueError, match="the year of ALSO_OLD, OLD is not known"):
        Time().order(CONCEPTS, rng(0), Background(years={"NEW": 2020}))
    with pytest.raises(ValueError, match=r"gives a year to 'NEWS'.*close matches: \['NEW'\]"):
        Time(years={"NEWS": 2020}).order(CONCEPTS, rng(0), KNOWN)
