"""Append-only files of the store, one JSON object per line: what people decided and what was recorded.

An entry is on disk before it counts. A crash while one is written leaves a torn last line, which never counted: readers
say so and pass over it, the next writer keeps its bytes beside the ledger. In object storage `remote_ledger` does the
same with an object for each addition.
"""

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data_catalog import remote_ledger
from data_catalog.disk import DiskFull, room_in
from data_catalog.places import store_root
from data_catalog.store_files import make_folder, write_atomically
from data_catalog.versions import check_known

log = logging.getLogger(__name__)

FORMAT = 1  # of all ledgers; raise it with what reads the entries of before. Entries without one are of the first


def path_of(name: str) -> Path:
    """The file of a ledger; of one in object storage, the folder of what this machine keeps of it."""
    if remote_ledger.is_used():
        return remote_ledger.folder_of(name)
    return store_root() / "ledger" / f"{name}.jsonl"


def names(beginning: str = "") -> list[str]:
    """Of the ledgers of the store whose names begin so, what comes after that."""
    if remote_ledger.is_used():
        return [name.removeprefix(beginning) for name in remote_ledger.names() if name.startswith(beginning)]
    return sorted(path.stem.removeprefix(beginning) for path in path_of("any").parent.glob(f"{beginning}*.jsonl"))


def entries(name: str) -> list[dict]:
    """Every entry of a ledger, oldest first; raises ValueError where a line other than a torn last one is damaged."""
    if remote_ledger.is_used():
        return remote_ledger.entries(name, FORMAT)
    found, torn = _parsed(path_of(name))
    if torn:
        log.warning(
            "%s ends in a torn line of %d bytes: its writer was stopped before it counted, so it does not; "
            "enter it again if it is missed", path_of(name), len(torn),
        )  # fmt: skip
    return found


def extend(name: str, make: Callable[[list[dict]], list[dict]]) -> list[dict]:
    """Add the entries that `make` gives for what the ledger holds so far, and return them.

    Writers of all processes take turns; entries that are returned are on disk. `make` is asked again, for what the
    ledger then holds, if a writer on another machine was quicker: what it returned before was entered nowhere.
    """
    if remote_ledger.is_used():
        return remote_ledger.extend(name, make, FORMAT)
    path = path_of(name)
    make_folder(path.parent)
    with _turn(path):
        found, torn = _parsed(path)
        added = make(found)
        if added and torn:
            _set_aside(path, torn)
        if added:
            _write(path, added)
    return added


def _parsed(path: Path) -> tuple[list[dict], bytes]:
    """The entries, and the bytes of a torn last line."""
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    found = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            entry = json.loads(line)
            check_known(entry.pop("format", 1), FORMAT, f"line {number} of the ledger {path}")
            found.append(entry)
        except ValueError as error:  # also bytes that are no UTF-8
            if number == len(lines):
                return found, line
            raise ValueError(
                f"line {number} of the ledger {path} is damaged ({error}); it was whole when it was written: "
                "bring the file back from a backup, or repair the line by hand"
            ) from error
    return found, b""


def _set_aside(path: Path, torn: bytes) -> None:
    """Cut a torn last line off; its bytes stay in a file of their own."""
    kept = path.with_name(f"{path.stem}.torn-{time.time_ns()}")
    write_atomically(kept, torn)
    log.warning("%s ended in a torn line, which never counted; its %d bytes are kept in %s", path, len(torn), kept)
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - len(torn))


def _write(path: Path, added: list[dict]) -> None:
    lines = b"".join(json.dumps({**entry, "format": FORMAT}, sort_keys=True).encode() + b"\n" for entry in added)
    before = path.stat().st_size if path.is_file() else 0
    try:
        with room_in(path.parent), open(path, "a+b", buffering=0) as file:
            file.seek(max(0, before - 1))
            text = memoryview(lines if file.read(1) in (b"", b"\n") else b"\n" + lines)
            while text:  # what does not fit whole is written in part, and the rest raises
                text = text[file.write(text) :]
            os.fsync(file.fileno())
    except DiskFull:
        if path.is_file():
            os.truncate(path, before)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _turn(path: Path) -> Iterator[None]:
    with open(path.with_suffix(".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
