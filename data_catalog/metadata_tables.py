"""Metadata files as Arrow tables: a million entries in seconds, and every malformed one with its fault.

A batch whose values are all of the expected kinds is converted column by column; any other batch entry by entry.
"""

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import metadata
from data_catalog.json_files import read_entries_in_batches
from data_catalog.shards import SAMPLES, TEXTS

BATCH = 20_000  # entries that are Python objects at a time
ENTRIES = pa.schema(
    [
        ("key", pa.string()),
        ("classname", pa.string()),
        SAMPLES.field("target"),
        *((caption, TEXTS) for caption in metadata.CAPTIONS),
        ("fault", pa.string()),  # why the entry cannot be used; null if it can
    ]
)
LEAVES_FOLDER = r"^/|(^|/)\.\.(/|$)"
INT32 = 2**31 - 1


class _Unusual(Exception):
    """A batch holds a value that the conversion by columns does not know."""


def read_table(path: Path | str) -> pa.Table:
    """The entries of a metadata file (schema ENTRIES), in its order; raises ValueError if it is malformed."""
    batches = [_columns(path, keys, entries) for keys, entries in read_entries_in_batches(path, BATCH)]
    table = pa.Table.from_batches(batches, ENTRIES).combine_chunks()
    if pc.count_distinct(table["key"]).as_py() < table.num_rows:
        counts = table["key"].value_counts()
        repeated = counts.filter(pc.greater(pc.struct_field(counts, 1), 1))[0]["values"].as_py()
        raise ValueError(f"{path} has the key {repeated!r} more than once in one object; expected each key once")
    return table


def joined(base: pa.Table | None, resized: pa.Table | None, prefix: str) -> pa.Table:
    """Base file and file of the resized copies by original key: what the base lacks comes from the other.

    The order is that of the base file; the two are joined by key, since their orders differ (reference section 2.2).
    """
    if resized is None:
        return base
    resized = resized.set_column(0, "key", without_prefix(resized["key"], prefix))
    if base is None:
        return resized
    partner = resized.take(pc.index_in(base["key"], value_set=resized["key"].combine_chunks()))
    filled = [base["key"], *(pc.coalesce(base[name], partner[name]) for name in ENTRIES.names[1:-1]), base["fault"]]
    known = pc.is_in(resized["key"], value_set=base["key"].combine_chunks())
    return pa.concat_tables([pa.table(filled, schema=ENTRIES), resized.filter(pc.invert(known))]).combine_chunks()


def without_prefix(keys: pa.ChunkedArray, prefix: str) -> pa.ChunkedArray:
    """The keys, less `prefix` where they begin with it."""
    return pc.replace_substring_regex(keys, "^" + re.escape(prefix), "")


def _columns(path: Path | str, keys: list[str], entries: list[Any]) -> pa.RecordBatch:
    if not set(map(type, entries)) <= {dict}:
        raise ValueError(
            f"{path} is not a metadata file: expected one JSON object of objects, image key to {metadata.FIELDS}"
        )
    try:
        return _by_column(keys, entries)
    except (_Unusual, KeyError, pa.ArrowException, UnicodeEncodeError, OverflowError):
        return _by_entry(keys, entries)


def _by_column(keys: list[str], entries: list[dict]) -> pa.RecordBatch:
    key = pa.array(keys, pa.string())
    if pc.any(pc.match_substring_regex(key, LEAVES_FOLDER)).as_py():
        raise _Unusual
    names = _of_kinds([entry["classname"] for entry in entries], {str, type(None)})
    target = pa.array(_of_kinds([entry["target"] for entry in entries], {int}), pa.int32())
    name = pa.array(names, pa.string())
    if (pc.min(target).as_py() or 0) < 0 or pc.any(pc.equal(pc.utf8_trim_whitespace(name), "")).as_py():
        raise _Unusual
    captions = [_texts([entry[field] for entry in entries]) for field in metadata.CAPTIONS]
    return pa.record_batch([key, name, target, *captions, pa.nulls(len(keys), pa.string())], schema=ENTRIES)


def _of_kinds(values: list, kinds: set[type]) -> list:
    if not set(map(type, values)) <= kinds:
        raise _Unusual
    return values


def _texts(values: list) -> pa.Array:
    """`metadata.texts_of` of each value."""
    kinds = set(map(type, values))
    if kinds <= {type(None)}:
        return pa.nulls(len(values), TEXTS)
    if kinds <= {str, type(None)}:
        return pa.array([[value] if value and not value.isspace() else None for value in values], TEXTS)
    return pa.array([_texts_of_one(value) for value in values], TEXTS)


def _texts_of_one(value: Any) -> list[str] | None:
    if type(value) is list and len(value) == 1 and type(value[0]) is str and value[0] and not value[0].isspace():
        return value
    try:
        return metadata.texts_of(value)
    except ValueError as error:
        raise _Unusual from error


def _by_entry(keys: list[str], entries: list[dict]) -> pa.RecordBatch:
    rows = [_row(key, entry) for key, entry in zip(keys, entries, strict=True)]
    return pa.RecordBatch.from_pylist(rows, ENTRIES)


def _row(key: str, entry: dict) -> dict:
    """One entry with what of it can be used, and all its faults."""
    faults = [fault for _, fault in metadata.entry_problems(key, entry, None)]
    classname, target = entry.get("classname"), entry.get("target")
    is_index = type(target) is int and target >= 0
    if is_index and target > INT32:
        faults.append(f"target is {target}, expected a class index")
    row = {"key": key, "classname": classname if isinstance(classname, str) else None}
    row["target"] = target if is_index and target <= INT32 else None
    row |= {field: _texts_or_none(entry.get(field)) for field in metadata.CAPTIONS}
    readable = {field: _readable(value) for field, value in row.items()}
    faults += [f"{field} is not valid Unicode" for field, value in readable.items() if value != row[field]]
    return readable | {"fault": "; ".join(faults) or None}


def _texts_or_none(value: Any) -> list[str] | None:
    try:
        return metadata.texts_of(value)
    except ValueError:  # among the faults already
        return None


def _readable(value: Any) -> Any:
    """Text with a question mark for each lone half of a surrogate pair, which JSON can say and UTF-8 cannot."""
    if isinstance(value, list):
        return [_readable(text) for text in value]
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
