"""Cutting a stream into steps."""

from collections import Counter

import pytest

from data_catalog.cutting import chunks, cut_stream
from data_catalog.orderings.base import Concept

STREAM = [Concept(dataset, str(i)) for dataset, count in (("A", 3), ("B", 1), ("C", 2)) for i in range(count)]


def sizes(*arguments):
    return [len(step) for step in cut_stream(STREAM, *arguments)]


def test_the_first_steps_get_what_does_not_divide():
    assert chunks(18381, 20) == [920] + 19 * [919]
    assert Counter(chunks(18381, 200)) == {92: 181, 91: 19}


def test_more_steps_than_concepts_is_an_error():
    with pytest.raises(ValueError, match="3 concepts cannot be spread over 4 steps"):
        chunks(3, 4)


def test_one_step_per_dataset_or_year():
    assert sizes("by_dataset", 3) == sizes("by_dataset", None) == [3, 1, 2]
    assert sizes("by_year", 2, {"A": 2011, "B": 2011, "C": 2020}) == [4, 2]


def test_cutting_loses_and_reorders_nothing():
    for cut, steps in (("equal", 4), ("by_dataset", 3)):
        assert [concept for step in cut_stream(STREAM, cut, steps) for concept in step] == STREAM


def test_another_number_of_steps_is_an_error():
    with pytest.raises(ValueError, match="makes 3 steps of this stream, but `steps` is 20; set `steps` to 3"):
        sizes("by_dataset", 20)


def test_a_stream_that_comes_back_to_a_dataset_cannot_be_cut_by_it():
    with pytest.raises(ValueError, match="leaves A and comes back to it; choose an ordering such as dataset_by"):
        cut_stream([*STREAM, Concept("A", "9")], "by_dataset", 4)


def test_an_unknown_year_is_an_error():
    with pytest.raises(ValueError, match="the year of B is not known"):
        sizes("by_year", None, {"A": 2011})
