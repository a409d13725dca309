"""Tables of unknown origin (CSV, TSV, JSON lines, Parquet): the columns asked for, and the rows that are broken."""

import codecs
import csv as plain_csv
import gzip
import io
import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from data_catalog import files
from data_catalog.parquet_rows import columns_of, leaf, open_parquet

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITERS, *LINES, ".parquet")


class Tabular(NamedTuple):
    """The columns of a table, each text, list of text or what Parquet has; and why other rows are missing."""

    columns: dict[str, pa.ChunkedArray]
    attributes: pa.ChunkedArray  # the columns asked for as attributes, per row a JSON object
    faults: list[tuple[str, str]]  # which row, what is wrong with it


def read_tabular(location: str, columns: Sequence[str], attributes: Sequence[str] = ()) -> Tabular:
    """The columns of a file whose suffix tells its kind (.csv, .tsv, .jsonl, .parquet; text also as .gz).

    In Parquet and JSON lines dots in a name lead into structs. Raises ValueError if there is no such column or the
    file as a whole is broken; rows that are broken alone are told of.
    """
    suffix = "." + location.removesuffix(".gz").rpartition(".")[2].lower()
    try:
        if suffix == ".parquet":
            return _parquet(location, columns, attributes)
        if suffix not in SUFFIXES:
            raise ValueError(f"its kind is unknown, expected a name that ends in one of {SUFFIXES}, text also in .gz")
        data = files.read_all(location)
        data = (gzip.decompress(data) if location.endswith(".gz") else data).removeprefix(codecs.BOM_UTF8)
    except (ValueError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"cannot read {location}: {error}") from error
    if suffix in LINES:
        return _json_lines(location, data, columns, attributes)
    return _csv(location, data, columns, attributes)


def _parquet(location: str, columns: Sequence[str], attributes: Sequence[str]) -> Tabular:
    file = open_parquet(location)
    paths = {name: columns_of(file.schema_arrow, name) for name in (*columns, *attributes)}
    _complain_of_missing(location, [name for name, path in paths.items() if not path], file.schema_arrow.names)
    with files.reaching(location):
        table = file.read(columns=list(paths))
    found = {name: leaf(table[first], inner) for name, (first, *inner) in paths.items()}
    return Tabular({name: found[name] for name in columns}, _as_json(found, attributes, table.num_rows), [])


def _csv(location: str, data: bytes, columns: Sequence[str], attributes: Sequence[str]) -> Tabular:
    delimiter = DELIMITERS["." + location.removesuffix(".gz").rpartition(".")[2].lower()]
    text = io.TextIOWrapper(io.BytesIO(data), "utf-8", "replace", newline="")
    header = next(plain_csv.reader(text, delimiter=delimiter), [])
    wanted = list(dict.fromkeys([*columns, *attributes]))
    _complain_of_missing(location, [name for name in wanted if name not in header], header)
    faults = []

    def refuse(row: csv.InvalidRow) -> str:
        faults.append((f"row {row.number}", f"has {row.actual_columns} fields, expected {row.expected_columns}"))
        return "skip"

    try:
        table = csv.read_csv(
            io.BytesIO(data),
            csv.ReadOptions(use_threads=False),  # with threads, rows have no numbers
            csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.string()),
                include_columns=wanted,
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"cannot read {location}: {error}; expected text in UTF-8") from error
    found = {name: table[name] for name in wanted}
    return Tabular({name: found[name] for name in columns}, _as_json(found, attributes, table.num_rows), faults)


def _json_lines(location: str, data: bytes, columns: Sequence[str], attributes: Sequence[str]) -> Tabular:
    rows, faults = [], []
    for number, line in enumerate(data.splitlines(), start=1):
        if line.strip():
            row = _object(line)
            fault = row if isinstance(row, str) else _fault_of_object(row, columns)
            faults += [(f"row {number}", fault)] if fault else []
            rows += [] if fault else [row]
    found = {name: [field(row, name) for row in rows] for name in (*columns, *attributes)}
    empty = [name for name, values in found.items() if all(value is None for value in values)]
    known = sorted({name for row in rows[:1000] for name in row})
    _complain_of_missing(location, [name for name in empty if rows and name not in known], known)
    said = _as_json(found, attributes, len(rows))
    return Tabular({name: _column(found[name]) for name in columns}, said, faults)


def _object(line: bytes) -> dict | str:
    """The JSON object in a line, or why there is none."""
    try:
        row = json.loads(line)
        if b"\\u" in line:
            json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair is valid JSON, but no text
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested without end
        return f"is not JSON: {error}"
    return row if isinstance(row, dict) else f"is {str(row)[:40]!r}, expected an object"


def _fault_of_object(row: dict, columns: Sequence[str]) -> str | None:
    wrong = next((name for name in columns if _is_odd(field(row, name))), None)
    return wrong and f"{wrong} is {str(field(row, wrong))[:60]}, expected text"


def field(row: dict, name: str) -> Any:
    """A value of a JSON object, where dots in the name lead into objects inside; None if there is none."""
    if name in row:
        return row[name]
    for part in name.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def _is_odd(value: object) -> bool:
    """Whether a value is neither a plain one nor a list of texts."""
    if isinstance(value, list):
        return not all(isinstance(item, str) for item in value)
    return isinstance(value, dict)


def _column(values: list) -> pa.ChunkedArray:
    """Text, or lists of text if any value is a list."""
    has_lists = any(isinstance(value, list) for value in values)
    texts = [_text(value) for value in values]
    if has_lists:
        texts = [text if isinstance(text, list) or text is None else [text] for text in texts]
    return pa.chunked_array([pa.array(texts, pa.list_(pa.string()) if has_lists else pa.string())])


def _text(value: object) -> object:
    if value is None or isinstance(value, str | list):
        return value
    return json.dumps(value)  # 3 -> "3", true -> "true"


def _as_json(found: dict, attributes: Sequence[str], count: int) -> pa.ChunkedArray:
    """The attributes of each row as a JSON object with sorted keys; null where nothing is asked for."""
    if not attributes:
        return pa.chunked_array([pa.nulls(count, pa.string())])
    lists = [values if isinstance(values, list) else values.to_pylist() for values in map(found.get, attributes)]
    dumps = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=str).encode
    return pa.chunked_array([[dumps(dict(zip(attributes, row, strict=True))) for row in zip(*lists, strict=True)]])


def _complain_of_missing(location: str, missing: list[str], found: list[str]) -> None:
    if missing:
        raise ValueError(f"{location} has no column {missing}, found {found}; correct `columns`")


def as_text(values: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column as text with blank values null; raises ValueError if its type has no one text."""
    if pa.types.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    is_plain = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_null)
    if not (any(holds(values.type) for holds in is_plain) or values.type == pa.string_view()):
        raise ValueError(f"column {name!r} is of type {values.type}, expected text")
    values = pc.cast(values, pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), pa.scalar(None, pa.string()), values)
