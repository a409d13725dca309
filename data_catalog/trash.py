"""Artifacts that housekeeping took out while runs were at work: whoever asks for one gets it back.

Each housekeeping makes a batch, a folder with a number. A batch is emptied when all runs that began before it have
ended, since such a run may name in its last line what it never reads again. See `in_use`.
"""

import contextlib
import os
from pathlib import Path

from data_catalog.places import store_root
from data_catalog.store_files import make_folder


def restore(path: Path) -> bool:
    """Put the artifact that belongs at `path` back from the newest batch that has it; False if none has."""
    for batch in reversed(batches()):
        with contextlib.suppress(FileNotFoundError):  # in no trash, or another process was quicker
            os.replace(_folder(batch) / path.name, path)
            return True
    return False


def throw(path: Path, batch: int) -> None:
    """Move the artifact at `path` into a batch; its time of change stays."""
    make_folder(_folder(batch))
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, _folder(batch) / path.name)


def batches() -> list[int]:
    """The numbers of the batches there are, oldest first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(name) for name in os.listdir(_root()) if name.isdigit())
    return []


def contents(batch: int) -> list[Path]:
    """The artifacts in a batch."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(_folder(batch).iterdir())
    return []


def empty(batch: int) -> int:
    """Delete a batch for good; how many bytes that frees."""
    freed = 0
    for path in contents(batch):
        with contextlib.suppress(FileNotFoundError):  # taken back at this moment
            size = path.stat().st_size
            path.unlink()
            freed += size
    with contextlib.suppress(OSError):  # not empty, or gone
        _folder(batch).rmdir()
    return freed


def _root() -> Path:
    return store_root() / "trash"


def _folder(batch: int) -> Path:
    return _root() / str(batch)
