"""How often names occur in a text: counted in a corpus as runs of words, or read from a table; case is ignored."""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq

from data_catalog.json_files import read_json

Phrase = tuple[str, ...]
WORD = re.compile(r"[^\W_]+")  # letters and digits of any script; everything else separates


def words_of(text: str) -> Phrase:
    """The words of a text in one case: underscores, hyphens and other marks only separate them."""
    return tuple(WORD.findall(text.casefold()))


def count_in_corpus(path: Path, phrases: Iterable[Phrase]) -> dict[Phrase, int]:
    """How often each phrase stands in the documents of a file, overlapping ones too; the file is read as a stream."""
    counts = dict.fromkeys(phrases, 0)
    longest: dict[str, int] = {}  # words of the longest phrase, by its first word
    for phrase in counts:
        if phrase:
            longest[phrase[0]] = max(longest.get(phrase[0], 0), len(phrase))
    for document in _documents(path):
        words = words_of(document)
        for i, word in enumerate(words):
            for length in range(1, longest.get(word, 0) + 1):
                if (phrase := words[i : i + length]) in counts and len(phrase) == length:
                    counts[phrase] += 1
    return counts


def counts_in_table(path: Path) -> dict[Phrase, int]:
    """The counts in a .csv or .parquet with columns name and count, or a .json object or list of {name, count}.

    Names that differ only in case or marks are added up.
    """
    counts: dict[Phrase, int] = {}
    for name, count in _rows(path):
        phrase = words_of(_checked(path, name, count))
        counts[phrase] = counts.get(phrase, 0) + int(count)
    return counts


def _checked(path: Path, name: object, count: object) -> str:
    is_count = isinstance(count, int) or (isinstance(count, str) and count.isdecimal())
    if not isinstance(name, str) or not is_count or int(count) < 0:
        raise ValueError(
            f"{path} has the row name={name!r:.60} count={count!r:.20}, expected a text and a count from 0"
        )
    return name


def _rows(path: Path) -> Iterator[tuple[object, object]]:
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    elif path.suffix == ".json":
        content = read_json(path)
        rows = [{"name": n, "count": c} for n, c in content.items()] if isinstance(content, dict) else content
    else:
        raise ValueError(f"{path} ends in {path.suffix!r}, expected a table of counts as .csv, .parquet or .json")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and {"name", "count"} <= set(row) for row in rows):
        raise ValueError(f"{path} is no table of counts, expected rows with name and count")
    return ((row["name"], row["count"]) for row in rows)


def _documents(path: Path) -> Iterator[str]:
    """The documents of a corpus, one per line."""
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix not in (".txt", ".jsonl"):
        raise ValueError(f"{path} ends in {plain.suffix!r}, expected a corpus as .txt or .jsonl, also gzipped (.gz)")
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield _text(path, number, line) if plain.suffix == ".jsonl" else line
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path} to its end: {error}; expected text in UTF-8") from error


def _text(path: Path, number: int, line: str) -> str:
    try:
        document = json.loads(line) if line.strip() else {"text": ""}
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} of {path} is no JSON: {error.msg}; expected an object with `text`") from error
    if not isinstance(document, dict) or not isinstance(document.get("text"), str):
        raise ValueError(f"line {number} of {path} has no text in its field `text`; expected one document per line")
    return document["text"]
