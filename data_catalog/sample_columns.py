"""Columns of the sample tables of several datasets, by (dataset, row): what turns lean plan rows into full ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_catalog import store
from data_catalog.exclusions import Exclusions
from data_catalog.shards import DatasetRef

NAMES = ("split", "concept", "shard")  # few strings for many rows: read as dictionaries


class TrainingRows(NamedTuple):
    """The training samples of one dataset as integers."""

    row: np.ndarray  # in the sample table, ascending
    concept: np.ndarray  # place in `names`, -1 for none
    names: list[str]  # of the concepts, by first appearance
    dropped: np.ndarray  # bool
    marked: np.ndarray  # bool
    excluded: list[int]  # samples of this dataset that each of the exclusions names


def training_rows(dataset: DatasetRef, exclusions: Sequence[Exclusions]) -> TrainingRows:
    """The rows of the split `train`, with what exclusions say of them."""
    table = read_columns(dataset, ["split", "concept"])
    split = table["split"].combine_chunks()
    row = np.flatnonzero(codes_of(split) == _index_of(split.dictionary, "train"))
    concept = table["concept"].combine_chunks()
    flags = {"drop": np.zeros(len(row), bool), "mark": np.zeros(len(row), bool)}
    counts = []
    for some, named in zip(exclusions, _named(dataset, row, exclusions), strict=True):
        flags[some.effect] |= named
        counts.append(int(named.sum()))
    names = concept.dictionary.to_pylist()
    return TrainingRows(row, codes_of(concept)[row], names, flags["drop"], flags["mark"], counts)


def read_columns(dataset: DatasetRef, columns: Sequence[str]) -> pa.Table:
    """Columns of a sample table in one chunk each, those in NAMES as dictionaries."""
    path = store.locate(dataset.digest)
    table = pq.read_table(path, columns=list(columns), read_dictionary=[name for name in columns if name in NAMES])
    return table.replace_schema_metadata(None).unify_dictionaries().combine_chunks()


def compact(table: pa.Table) -> pa.Table:
    """One chunk per column and dictionaries of only what occurs, by first appearance: equal rows make equal bytes."""
    columns = [column.combine_chunks() for column in table.unify_dictionaries().columns]
    return pa.table([_without_unused(column) for column in columns], names=table.column_names)


def _without_unused(column: pa.Array) -> pa.Array:
    if not pa.types.is_dictionary(column.type):
        return column
    codes = codes_of(column)
    first = np.full(len(column.dictionary), len(codes))
    present = codes >= 0
    backwards = np.flatnonzero(present)[::-1]
    first[codes[backwards]] = backwards  # the last to be written is the first to appear
    used = np.argsort(first, kind="stable")[: int((first < len(codes)).sum())]
    renamed = np.zeros(len(first), np.int32)
    renamed[used] = np.arange(len(used), dtype=np.int32)
    indices = pa.array(renamed[np.maximum(codes, 0)] if len(first) else codes, pa.int32(), mask=~present)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary.take(pa.array(used)))


def codes_of(column: pa.DictionaryArray) -> np.ndarray:
    """The place of each value in the dictionary, -1 for null."""
    return column.indices.fill_null(-1).to_numpy()


def _index_of(dictionary: pa.Array, name: str) -> int:
    found = pc.index(dictionary, name).as_py()
    return found if found >= 0 else -2  # matches no row, not even a null


def _named(dataset: DatasetRef, row: np.ndarray, exclusions: Sequence[Exclusions]) -> list[np.ndarray]:
    """Which of the rows each of the exclusions names; the ids are read only if any can be meant."""
    excluded = [store.read_table(some.digest, columns=["sample"])["sample"].combine_chunks() for some in exclusions]
    if not any(pc.any(pc.starts_with(ids, f"{dataset.name}/")).as_py() for ids in excluded):
        return [np.zeros(len(row), bool)] * len(exclusions)
    ids = read_columns(dataset, ["id"])["id"].take(pa.array(row))
    return [pc.is_in(ids, value_set=some).to_numpy() for some in excluded]
