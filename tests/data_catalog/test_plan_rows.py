"""From rows of a plan to samples and texts."""

import numpy as np
import pyarrow as pa
import pytest

from data_catalog.captions import CaptionPolicy
from data_catalog.plan_rows import PlanRows, Sources, _places

LISTS = pa.array([["a"], ["b", "c"], ["d", "e", "f"]])


@pytest.fixture
def sources(datasets, captions):
    return Sources.of(datasets.values(), captions, CaptionPolicy(), ())


def test_what_the_metadata_says_comes_back(sources):
    assert Sources.described_by(sources.metadata()["evergreen"].encode()) == sources


def test_the_order_given_does_not_matter(sources, datasets, captions):
    assert Sources.of(reversed(datasets.values()), captions[::-1], CaptionPolicy(), ()) == sources


def test_columns_come_in_the_order_asked_for_and_as_often(sources):
    dataset, row = np.array([2, 0, 0, 1]), np.array([0, 1, 0, 2])
    rows = PlanRows(np.zeros(4, int), dataset, row, np.zeros(4, bool))
    ids = sources.columns(rows, np.array([3, 0, 0, 2, 1]), ("id",))["id"].to_pylist()
    expected = ["SCENES/train/2.png", "SHAPES/train/circle/0.png", "BROAD/train/0.png", "BROAD/train/1.png"]
    assert ids == [expected[i] for i in (0, 1, 1, 2, 3)]


def test_luck_falls_on_texts_alike():
    nothing = pa.nulls(3, pa.list_(pa.float32()))
    rows, luck = np.array([0, 1, 1, 2, 2, 2]), np.array([0.99, 0.49, 0.5, 0.0, 0.34, 0.999])
    assert _places(LISTS, nothing, rows, luck).tolist() == [0, 0, 1, 0, 1, 2]


def test_luck_falls_on_weights_where_there_are_any():
    weights = pa.array([None, [0.75, 0.25], [0.0, 1.0, 0.0]], pa.list_(pa.float32()))
    rows, luck = np.array([1, 1, 2, 2, 0]), np.array([0.74, 0.76, 0.0, 0.999, 0.5])
    assert _places(LISTS, weights, rows, luck).tolist() == [0, 1, 1, 1, 0]
