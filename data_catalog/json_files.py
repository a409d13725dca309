"""Reading JSON of unknown origin: whatever is wrong with a file is said with its name and the place."""

import gzip
import json
import zlib
from collections import Counter
from functools import partial
from pathlib import Path


def read_json(path: Path) -> object:
    """The parsed file, decompressed if it ends in .gz; raises ValueError with the file and the place of the fault."""
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"cannot read {path}: {error}; expected JSON in UTF-8, compressed if it is called .gz"
        ) from error
    try:
        return json.loads(text, object_pairs_hook=partial(_without_repeats, path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error


def _without_repeats(path: Path, pairs: list[tuple[str, object]]) -> dict:
    if len(result := dict(pairs)) < len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{path} has the key {repeated!r} more than once in one object; expected each key once")
    return result
