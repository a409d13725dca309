"""Small files beside the artifacts: pointers, kept facts, result records; shared by machines through object storage.

A file lies in the folder of the store or of the results. Where that is the cache of a URL it is written there first,
and whoever writes last wins: facts and results follow from their names, and a pointer names the newest.
"""

import os
import time
from pathlib import Path

from data_catalog.object_storage import ObjectStorage, storage_at
from data_catalog.places import results_root, results_url, store_root, store_url
from data_catalog.store_files import write_atomically

FRESH_SECONDS = 86400.0  # how old the time of last use in object storage may be


def write(path: Path, data: bytes) -> None:
    """Make `data` the content of the file, for every machine."""
    if (at := _place(path)) is not None:
        at[0].replace(at[1], data)
    write_atomically(path, data)


def read(path: Path) -> bytes | None:
    """What the file says, None if there is none; this machine's copy is good enough."""
    if path.is_file():
        return path.read_bytes()
    return newest(path)


def newest(path: Path) -> bytes | None:
    """What the file says now, whatever this machine has; None if there is none."""
    if (at := _place(path)) is None:
        return path.read_bytes() if path.is_file() else None
    data = at[0].find(at[1])
    if data is None:
        path.unlink(missing_ok=True)
    elif not path.is_file() or path.read_bytes() != data:
        write_atomically(path, data)
    return data


def used(path: Path) -> None:
    """Note that the file is used now: housekeeping goes by that. Nothing if it is gone."""
    if not path.is_file():
        return
    old = time.time() - path.stat().st_mtime
    os.utime(path)
    if old > FRESH_SECONDS and (at := _place(path)) is not None:
        at[0].replace(at[1], path.read_bytes())


def below(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder, each brought to this machine, with the time of change that it has where it is shared."""
    if (at := _place(folder / "any")) is None:
        return sorted(path for path in folder.glob(pattern) if path.is_file())
    there, prefix = at[0], at[1].removesuffix("any").rstrip("/")
    root = folder if not prefix else Path(str(folder).removesuffix(prefix))
    found = {root / key: (key, stat) for key, stat in there.below(prefix).items()}
    wanted = {path: told for path, told in found.items() if path.match(str(folder / pattern))}

    def bring(path: Path) -> None:
        key, stat = wanted[path]
        if not path.is_file() and (data := there.find(key)) is not None:
            write_atomically(path, data)
            os.utime(path, ns=(time.time_ns(), stat.changed_ns or time.time_ns()))

    there.each(bring, wanted)
    return sorted(path for path in wanted if path.is_file())


def delete(paths: list[Path]) -> None:
    """Delete files, for every machine."""
    for path in paths:
        if (at := _place(path)) is not None:
            at[0].delete([at[1]])
        path.unlink(missing_ok=True)


def _place(path: Path) -> tuple[ObjectStorage, str] | None:
    """The storage and the key of a file, None if it is only here."""
    for url, root in ((store_url(), store_root()), (results_url(), results_root())):
        if url is not None and path.is_relative_to(root):
            return storage_at(url), str(path.relative_to(root))
    return None
