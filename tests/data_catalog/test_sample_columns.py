"""Reading the training rows of a dataset as integers, and tables as equal bytes."""

import numpy as np
import pyarrow as pa

from data_catalog.exclusions import exclude
from data_catalog.sample_columns import codes_of, compact, read_columns, training_rows


def test_training_rows_are_those_of_the_split(datasets):
    rows = training_rows(datasets["SHAPES"], ())
    split = read_columns(datasets["SHAPES"], ["split"])["split"].to_pylist()
    assert [split[row] for row in rows.row] == ["train"] * 11 and len(split) == 14
    assert {rows.names[code] for code in rows.concept} == {"circle", "square", "star"}


def test_exclusions_are_counted_per_dataset(datasets):
    names = [f"SHAPES/train/star/{i}.png" for i in range(2)]
    some = [exclude(dict.fromkeys(names, "x"), "drop", "a"), exclude({names[0]: "y"}, "mark", "b")]
    shapes, scenes = (training_rows(datasets[name], some) for name in ("SHAPES", "SCENES"))
    assert shapes.excluded == [2, 1] and scenes.excluded == [0, 0]
    assert (shapes.dropped.sum(), shapes.marked.sum(), scenes.dropped.sum()) == (2, 1, 0)


def test_a_compact_dictionary_holds_what_occurs_by_first_appearance():
    wide = pa.DictionaryArray.from_arrays(pa.array([3, None, 1, 3], pa.int32()), pa.array(["a", "b", "c", "d"]))
    column = compact(pa.table({"x": wide}))["x"].chunk(0)
    assert column.dictionary.to_pylist() == ["d", "b"] and column.to_pylist() == ["d", None, "b", "d"]
    assert compact(pa.table({"x": column}))["x"].chunk(0).equals(column)


def test_a_column_without_values_stays_one():
    empty = pa.DictionaryArray.from_arrays(pa.array([None, None], pa.int32()), pa.array([], pa.string()))
    assert compact(pa.table({"x": empty}))["x"].to_pylist() == [None, None]
    assert (codes_of(empty) == np.array([-1, -1])).all()
