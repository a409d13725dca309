"""The facts of the benchmark's datasets (FoMo-in-Flux, arXiv 2408.14471) that code needs, and the names they go by."""

import difflib
import json
from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_catalog.json_files import read_json
from data_catalog.refs import Spec


class DatasetEntry(Spec):
    """What is known of a dataset before any file of it is opened (reference section 2)."""

    handle: str
    stream_name: str  # what stands before +++ in the streams
    accepted_names: tuple[str, ...]
    info_prefix: str  # stem of its tar, folder and metadata files; our name for the dataset
    kind: Literal["classification", "retrieval"]
    role: Literal["adaptation", "retention", "pretraining", "extra"]  # extra: has a loader upstream, is not scored
    prompt_template: str | None  # None for caption retrieval without classes
    classes: int  # number of prompts scored at evaluation
    split_tokens: dict[str, str]  # our split -> the word in the file names
    class_name_transform: Literal["none", "underscores_to_spaces"] = "none"
    class_list_of: str | None = None  # without a list of its own: that dataset's, sorted ignoring case
    classes_in_table: int | None = None  # as the paper prints it
    classes_in_streams: int = 0  # entries of a full stream
    metric: Literal["accuracy_top1", "recall_at_5"] = "accuracy_top1"  # what enters the summaries
    samples: dict[str, int] = Field(default_factory=dict)  # split -> images upstream
    has_resized: bool = False  # there are copies of its images at 224 pixels
    metadata_files: tuple[str, ...] = ()  # upstream
    year: int | None = None  # of publication, inferred
    time_group: int | None = None  # its place among the 15 groups of the time-incremental streams
    domain: str | None = None
    licence: str | None = None
    caption_source: str | None = None
    native_size: int | None = None  # pixels, a hint
    zero_shot: float | None = None  # of OpenCLIP ViT-B/32 on the whole test split, as published upstream


@lru_cache(maxsize=1)
def benchmark() -> tuple[DatasetEntry, ...]:
    """The 63 datasets of the benchmark and the 4 extra ones that have loaders upstream."""
    text = (files("data_catalog") / "registry.json").read_text(encoding="utf-8")
    return tuple(DatasetEntry(**row) for row in json.loads(text)["datasets"])


def described_in(path: Path | str) -> tuple[DatasetEntry, ...]:
    """The datasets of a `datasets.json` beside the data: a list of {name, kind, role, prompt_template, classes}."""
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
        raise ValueError(f"{path} is not a list of objects with a name, kind, role, prompt_template and classes")
    found = tuple(_described(path, row) for row in rows)
    if clash := first_clash(entry.info_prefix for entry in found):
        raise ValueError(f"{path} names {clash} more than once, upper and lower case aside; give each its own name")
    return found


def by_name(datasets: Iterable[DatasetEntry]) -> dict[str, DatasetEntry]:
    """Every name under which the datasets may be spoken of."""
    return {name: d for d in datasets for name in (d.handle, d.stream_name, d.info_prefix, *d.accepted_names)}


def first_clash(names: Iterable[str]) -> str | None:
    """Two names that are one where upper and lower case are taken for the same; None if all are different."""
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in seen:
            return f"{seen[name.casefold()]} and {name}"
        seen[name.casefold()] = name
    return None


def close_to(name: str, known: Iterable[str]) -> str:
    """The part of an error message that helps with a misspelt name."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"close matches: {close}" if close else f"nothing is close; {len(known)} are known, e.g. {sorted(known)[:5]}"


def _described(path: Path | str, row: dict) -> DatasetEntry:
    name, classes = row["name"], row.get("classes") or 0
    facts = {"handle": name.lower(), "stream_name": name, "accepted_names": (name,), "info_prefix": name}
    facts |= {"split_tokens": {"train": "train", "test": "test"}, "prompt_template": None, "role": "adaptation"}
    given = {key: value for key, value in row.items() if key not in ("name", "classes")}
    try:
        return DatasetEntry(**facts | given, classes=classes if isinstance(classes, int) else len(classes))
    except ValueError as error:
        raise ValueError(f"dataset {name!r} in {path}: {error}") from error
