"""Reading JSON of unknown origin: whatever is wrong with a file is said with its name and the place."""

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from json.decoder import scanstring
from pathlib import Path

from data_catalog import files

SMALL, LARGEST_RATIO = 2**26, 200  # bytes that any file may unpack to, and how often a larger one its own size

_space = re.compile(r"[ \t\n\r]*").match
_entry = json.JSONDecoder(object_pairs_hook=tuple).scan_once  # an object becomes a tuple of its pairs


def read_json(path: Path | str) -> object:
    """The parsed file, decompressed if it ends in .gz; raises ValueError with the file and the place of the fault."""
    text = _text(path)
    try:
        return json.loads(text, object_pairs_hook=partial(_without_repeats, path))
    except json.JSONDecodeError as error:
        raise _malformed(path, error) from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested without end; expected objects with texts and lists of texts") from error


def read_entries_in_batches(path: Path | str, size: int) -> Iterator[tuple[list[str], list[object]]]:
    """The keys and values of the one object in a file, some at a time, so that they never are in memory all at once.

    Objects among the values are dicts. Raises ValueError with the file and the place of the fault; that a key of the
    outer object is repeated is for the caller to find, who has them all in the end.
    """
    text = _text(path)
    try:
        yield from _batches(path, text, size)
    except json.JSONDecodeError as error:
        raise _malformed(path, error) from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested without end; expected objects with texts and lists of texts") from error


def _batches(path: Path | str, text: str, size: int) -> Iterator[tuple[list[str], list[object]]]:
    at = _expect("{", text, _space(text).end())
    keys, values = [], []
    more = text[(at := _space(text, at).end()) : at + 1] != "}"
    while more:
        key, at = scanstring(text, _expect('"', text, at))
        at = _expect(":", text, _space(text, at).end())
        try:
            value, at = _entry(text, _space(text, at).end())
        except StopIteration as error:  # how the scanner says that no value begins here
            raise json.JSONDecodeError("Expecting value", text, error.value) from error
        keys.append(key)
        values.append(value)
        if len(keys) == size:
            yield keys, _as_dicts(path, keys, values)
            keys, values = [], []
        at = _space(text, at).end()
        if more := text[at : at + 1] == ",":
            at = _space(text, at + 1).end()
    if _space(text, _expect("}", text, at)).end() < len(text):
        raise json.JSONDecodeError("Extra data", text, at + 1)
    if keys:
        yield keys, _as_dicts(path, keys, values)


def _expect(character: str, text: str, at: int) -> int:
    """The position after a character that must come here."""
    if text[at : at + 1] == character:
        return at + 1
    raise json.JSONDecodeError(f"Expecting {character!r}", text, at)


def _as_dicts(path: Path | str, keys: list[str], values: list[object]) -> list[object]:
    dicts = [dict(value) if type(value) is tuple else value for value in values]
    for key, pairs, found in zip(keys, values, dicts, strict=True):
        if type(pairs) is tuple and len(found) < len(pairs):
            repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"{path} has the key {repeated!r} more than once in the entry {key!r}; expected it once")
    return dicts


def _text(path: Path | str) -> str:
    try:
        data = files.read_all(str(path))
        return (unpacked(data) if str(path).endswith(".gz") else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read {path}: {error}; expected JSON in UTF-8, compressed if it is called .gz"
        ) from error


def unpacked(data: bytes) -> bytes:
    """The content of a gzip file; raises OSError for one that is made to fill the memory."""
    limit = max(SMALL, LARGEST_RATIO * len(data))
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(f"its {len(data)} bytes unpack to more than {limit}, which no text does")
    return content


def _malformed(path: Path | str, error: json.JSONDecodeError) -> ValueError:
    return ValueError(f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}")


def _without_repeats(path: Path | str, pairs: list[tuple[str, object]]) -> dict:
    if len(result := dict(pairs)) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{path} has the key {repeated!r} more than once in one object; expected each key once")
    return result
