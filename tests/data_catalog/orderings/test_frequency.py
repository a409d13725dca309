"""Concepts by the count of their names."""

import json

import pytest

from data_catalog.orderings.base import Concept
from data_catalog.orderings.frequency import Frequency
from data_catalog.seeds import rng

CONCEPTS = [Concept("A", "great white"), Concept("B", "Great_White"), Concept("A", "white"), Concept("A", "axolotl")]


def order(**fields):
    return Frequency(**fields).order(CONCEPTS, rng(0))


def test_rare_names_come_first_and_shared_ones_together(tmp_path):
    (tmp_path / "c.txt").write_text("The great white, a GREAT WHITE.\nwhite white\n")
    assert order(corpus=str(tmp_path / "c.txt")) == [CONCEPTS[i] for i in (3, 0, 1, 2)]


def test_counts_from_a_table_with_missing_names_as_none(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"WHITE": 1, "great white": 7, "axolotl": 3, "other": 9}))
    assert order(table=str(tmp_path / "t.json")) == [CONCEPTS[i] for i in (2, 3, 0, 1)]
    (tmp_path / "short.json").write_text(json.dumps({"white": 1, "great white": 7}))
    assert order(table=str(tmp_path / "short.json"))[0].name == "axolotl"
    with pytest.raises(ValueError, match="no count of 1 concepts, first 'axolotl' of A"):
        order(table=str(tmp_path / "short.json"), missing="error")


def test_exactly_one_place_to_count_in():
    with pytest.raises(ValueError, match="either `corpus` or `table`"):
        Frequency()


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*gone\.txt"):
        Frequency(corpus=str(tmp_path / "gone.txt")).content()
