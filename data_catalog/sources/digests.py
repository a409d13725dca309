"""Content digests of many files, remembered by (size, time of change, inode) so that unchanged data costs a stat."""

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_catalog import places
from data_catalog.store_files import write_atomically


def digest_of_files(files: dict[str, Path], facts: str) -> str:
    """One digest of `facts` and of every file under the name it is given, so independent of where the files lie."""
    digests = _digests(files.values())
    lines = [facts, *(f"{digests[path]} {name}" for name, path in sorted(files.items()))]
    whole = "\n".join(lines).encode()
    return f"sha256:{hashlib.sha256(whole).hexdigest()}"


def files_below(folder: Path) -> list[str]:
    """The relative names of all files in a folder, sorted, with / between the parts."""
    found = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def _digests(paths: Iterable[Path]) -> dict[Path, str]:
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    return {
        path: digest for folder, members in by_folder.items() for path, digest in _digests_in(folder, members).items()
    }


def _digests_in(folder: Path, paths: list[Path]) -> dict[Path, str]:
    """The digests of some files of one folder; the memory of each folder is a file of its own, so it stays small."""
    memory = places.home() / "digests" / f"{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]}.json"
    known = json.loads(memory.read_text()) if memory.is_file() else {}
    stats = {path: _stat(path) for path in paths}
    changed = [path for path in paths if known.get(path.name, [None])[:-1] != stats[path]]
    with ThreadPoolExecutor() as pool:
        fresh = {p.name: [*stats[p], d] for p, d in zip(changed, pool.map(_sha256, changed), strict=True)}
    if fresh:
        write_atomically(memory, json.dumps(known | fresh).encode())
    return {path: (known | fresh)[path.name][-1] for path in paths}


def _stat(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ino]


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
