"""Parquet files with the bytes of images in a column, as the Hugging Face Hub has them, read where they lie.

The index of a file needs the length of every image, so each file is read once even where only an index is asked for.
"""

import json
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from data_catalog import files
from data_catalog.files import FileStat
from data_catalog.parquet_rows import columns_of, leaf, open_parquet
from data_catalog.refs import Spec
from data_catalog.sources.manifest import texts_of_columns, whole_number
from data_catalog.sources.one_dataset import Found, OneDataset, found_table
from data_catalog.sources.shard_names import find_shards, split_in
from data_catalog.sources.shard_tables import tables_of, with_split
from data_catalog.tabular import as_text, read_tabular

_REVISION = 1  # of the tables kept per file


class Columns(Spec):
    """Which column says what; dots lead into structs."""

    image: str = Field("image", description="bytes, or a struct that has them under `bytes`")
    id: str | None = Field(None, description="what tells one sample from all others; by default file and row")
    captions: tuple[str, ...] = Field((), description="text, or lists of text; all of them become captions")
    concept: str | None = Field(None, description="class name, or its number in the Hub's features or `classnames`")
    split: str | None = Field(None, description="word for the split; by default it is looked for in the file's name")
    attributes: tuple[str, ...] = Field((), description="what else to keep of a sample")


class ParquetImages(OneDataset):
    """Every row with an image is a sample, called <file>/<row> unless a column has an id."""

    kind: Literal["parquet_images"] = "parquet_images"
    files: tuple[str, ...] = Field(("*.parquet",), description="below `data`; {00000..00011} counts, * is anything")
    columns: Columns = Columns()

    def find_files(self) -> dict[str, FileStat]:
        found = find_shards(self.root(), self.files)
        if odd := [name for name in found if not name.endswith(".parquet")]:
            raise ValueError(f"{odd[0]} in {self.root()} is not called .parquet; rename it or correct `files`")
        return found

    def nothing(self) -> str:
        return f"no file {', '.join(self.files)} lies in {self.root()}"

    def find(self, inside: dict[str, FileStat]) -> Found:
        facts = f"parquet_images {_REVISION} {self.columns.model_dump_json()}"
        tables = tables_of(self.root(), inside, facts, self._read)
        if self.columns.split is None:
            splits = [split_in(name, self.split_words()) for name in inside]
            tables = [with_split(*pair) for pair in zip(tables, splits, strict=True)]
        return Found(pa.concat_tables(tables), self._names_in_features(inside))

    def _names_in_features(self, inside: dict[str, FileStat]) -> tuple[str, ...] | None:
        first = next((name for name, stat in inside.items() if not stat.fault), None)
        if first is None or self.columns.concept is None:
            return None
        return _class_names(open_parquet(files.join(self.root(), first)), self.columns.concept)

    def _read(self, location: str, name: str) -> pa.Table:
        columns, parquet = self.columns, open_parquet(location)
        image = _image_column(parquet, columns.image, location)
        length = _lengths(parquet, image, location)
        single = [column for column in (columns.id, columns.concept, columns.split) if column]
        said = read_tabular(location, list(dict.fromkeys([*single, *columns.captions])), columns.attributes)
        stem = name.removesuffix(".parquet")
        rows = pa.array(range(len(length)), pa.int64())
        key = pc.binary_join_element_wise(stem, pc.utf8_lpad(pc.cast(rows, pa.string()), 6, "0"), "/")
        fields = {"key": as_text(said.columns[columns.id], columns.id) if columns.id else key}
        fields |= {"file": name, "shard": f"{name}::{image}", "offset": rows, "length": length}
        if columns.split:
            fields["split"] = as_text(said.columns[columns.split], columns.split)
        if columns.concept:
            names = _class_names(parquet, columns.concept)
            fields |= _classes(as_text(said.columns[columns.concept], columns.concept), names)
        captions = [said.columns[column] for column in columns.captions]
        fields |= {"default_caption": texts_of_columns(captions, len(length)), "attributes": said.attributes}
        none = pa.scalar(None, pa.string())
        code = pc.if_else(length.is_null(), "no_image", none)
        if columns.id:
            code = pc.if_else(fields["key"].is_null(), "bad_entry", code)
        reason = pc.if_else(code.is_valid(), "the row has no image, or no id", none)
        return found_table(len(length), **fields, code=code, reason=reason)


def _image_column(parquet: pq.ParquetFile, column: str, location: str) -> str:
    """The dotted name of the bytes; raises ValueError if there are none."""
    schema = parquet.schema_arrow
    for name in (f"{column}.bytes", column):
        if path := columns_of(schema, name):
            kind = schema.field(path[0]).type
            for inner in path[1:]:
                kind = kind.field(inner).type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or kind == pa.binary_view():
                return name
    found = {field.name: str(field.type) for field in schema}
    raise ValueError(f"{location} has no bytes in column {column!r}, found {found}; correct `columns`")


def _lengths(parquet: pq.ParquetFile, image: str, location: str) -> pa.ChunkedArray:
    """The bytes of the image in every row, null where there is none; a row group at a time is in memory."""
    first, *inner = columns_of(parquet.schema_arrow, image)
    lengths = [pa.array([], pa.int64())]
    for group in range(parquet.num_row_groups):
        with files.reaching(location):
            column = parquet.read_row_group(group, columns=[image])[first]
        lengths += pc.cast(pc.binary_length(leaf(column, inner)), pa.int64()).chunks
    return pa.chunked_array(lengths)


def _class_names(parquet: pq.ParquetFile, column: str) -> tuple[str, ...] | None:
    """The names of a ClassLabel in the Hub's description of a column, if it has one."""
    text = (parquet.schema_arrow.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        feature = json.loads(text)["info"]["features"].get(column)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the features that the file describes itself with are malformed: {error!r}") from error
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return tuple(names) if names else None


def _classes(said: pa.ChunkedArray, names: tuple[str, ...] | None) -> dict[str, pa.ChunkedArray]:
    """Class names where numbers have them; other numbers stay, for `classnames` or a refusal."""
    number = whole_number(said)
    named = pc.take(pa.array(names or (), pa.string()), pc.if_else(pc.less(number, len(names or ())), number, None))
    is_word = number.is_null()
    return {"concept": pc.coalesce(named, pc.if_else(is_word, said, pa.scalar(None, pa.string()))),
            "target": pc.if_else(named.is_valid(), pa.scalar(None, pa.int64()), number)}  # fmt: skip
