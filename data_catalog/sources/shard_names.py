"""Names of the files that a dataset is spread over: patterns such as {000..123}.tar, and the split in a name."""

import fnmatch
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from data_catalog import files
from data_catalog.files import FileStat

_LOOKS_AT_ONCE = 16
_BRACES = re.compile(r"\{([^{}]*)\}")
_SPAN = re.compile(r"(\d+)\.\.(\d+)")


def expanded(pattern: str) -> list[str]:
    """The names a pattern with braces stands for, as in a shell: {000..123} counts with leading zeros, {a,b} lists."""
    found = _BRACES.search(pattern)
    if not found:
        return [pattern]
    inner = [pattern[: found.start()] + part + pattern[found.end() :] for part in _parts(found[1])]
    return [name for each in inner for name in expanded(each)]


def find_shards(root: str, patterns: Iterable[str]) -> dict[str, FileStat]:
    """The files below `root` that patterns name, in sorted order; braces count, * stands for anything.

    A name that stands for one file which is not there is in the result with a fault.
    """
    names = [name for pattern in patterns for name in expanded(pattern)]
    if root.startswith("http"):
        return _looked_at_one_by_one(root, names)
    below = files.stat_below(root)
    found = {name: below.get(name, _ABSENT) for name in names if "*" not in name}
    for pattern in {name for name in names if "*" in name}:
        found |= {name: stat for name, stat in below.items() if fnmatch.fnmatchcase(name, pattern)}
    return {} if all(stat is _ABSENT for stat in found.values()) else dict(sorted(found.items()))


def split_in(name: str, words: Iterable[str]) -> str | None:
    """The word for a split that is part of a file's name or folder, as in data/train-00000-of-00012.parquet."""
    known = {word.lower(): word for word in words}
    parts = re.split(r"[/\\._\-]+", name.lower())
    return next((known[part] for part in parts if part in known), None)


_ABSENT = FileStat(0, "none", None, "is not there")


def _looked_at_one_by_one(root: str, names: list[str]) -> dict[str, FileStat]:
    """Of a web server, which does not list its files."""
    if stars := [name for name in names if "*" in name]:
        raise ValueError(f"{root} cannot be listed, so {stars[0]!r} must name its files, as {{000..123}}.tar does")
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        stats = pool.map(lambda name: files.stat_one(files.join(root, name)) or _ABSENT, names)
        found = dict(zip(names, stats, strict=True))
    return {} if all(stat is _ABSENT for stat in found.values()) else dict(sorted(found.items()))


def _parts(inside: str) -> list[str]:
    if span := _SPAN.fullmatch(inside):
        return [f"{number:0{len(span[1])}d}" for number in range(int(span[1]), int(span[2]) + 1)]
    return inside.split(",")
