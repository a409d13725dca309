"""Atomic files: a reader sees the whole new file or none of it, also after a crash."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_catalog.disk import room_in


@contextlib.contextmanager
def scratch_file(folder: Path, name: str) -> Iterator[Path]:
    """An empty temporary file in `folder`, gone after the block unless it was moved; raises DiskFull."""
    make_folder(folder)
    with room_in(folder):
        handle, path = tempfile.mkstemp(prefix=f".{name[:32]}.", dir=folder)
        os.close(handle)
        try:
            yield Path(path)
        finally:
            Path(path).unlink(missing_ok=True)


def move_into_place(temporary: Path, target: Path) -> None:
    """Flush `temporary` to disk and make it `target` in one step; both on the same file system."""
    make_folder(target.parent)
    os.chmod(temporary, 0o644)
    _flush(temporary)
    os.replace(temporary, target)
    _flush(target.parent)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that takes its place if the block succeeds."""
    with scratch_file(target.parent, target.name) as temporary:
        yield temporary
        move_into_place(temporary, target)


def write_atomically(target: Path, data: bytes) -> None:
    """Replace `target` by `data` in one step."""
    with replacing(target) as temporary:
        temporary.write_bytes(data)


def digest_of_content(path: Path) -> str:
    """The digest of a file, which is read whole."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def make_folder(folder: Path) -> None:
    """Create `folder`; raises ValueError that names it when it cannot be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"cannot create {folder} ({error.strerror}); "
            "name a folder that can be written to, of the home by EVERGREEN_HOME or EVERGREEN_STORE"
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"{folder} is not writable for this user; "
            "name a folder that is, of the home by EVERGREEN_HOME or EVERGREEN_STORE"
        )


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
