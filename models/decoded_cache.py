"""Decoded images kept on disk, so that evaluating the next checkpoint decodes none; only where a folder is named.

One file of records of one length, another that says which image each is of, told by the SHA-256 of its bytes, with a
checksum of its pixels. Both only grow. Several processes may read and write at once; what one of them left half written
is cut off by the next that writes, and a record that is damaged counts as missing.
"""

import contextlib
import fcntl
import logging
import os
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from torch import Tensor

from models import decoding

_ENTRY = np.dtype([("hash", "S64"), ("crc", "<u4")])  # hexadecimal, since NumPy cuts zero bytes off


class DecodedCache:
    """The images of one size and one way of fitting them into squares, under the folder `root`.

    Raises ValueError where that cannot be written to.
    """

    def __init__(self, root: Path, size: int, squash: bool):
        self._folder = root / f"{size}-{'squash' if squash else 'crop'}-{decoding.REVISION}"
        with _naming(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "index").touch()  # housekeeping goes by when it was last used
        self._size, self._bytes, self._lock = size, 3 * size * size, threading.Lock()
        self._slots: dict[str, tuple[int, int]] = {}  # hash -> number of its record, checksum
        self._known = 0  # entries read so far

    def images(self, rows: pa.Table, decode: Callable[[pa.Table], Tensor]) -> Tensor:
        """The images of `rows` (column hash), uint8 [rows, 3, size, size], channels last; `decode` makes missing ones.

        Images of unknown hash are decoded every time.
        """
        names = [hash and hash.hex() for hash in rows["hash"].to_pylist()]
        images = decoding.empty_batch(len(names), self._size)
        with self._lock:
            self._look()
            entries = [self._slots.get(name) for name in names]
        missing = [i for i, entry in enumerate(entries) if not self._read(entry, images[i])]
        if missing:
            made = decode(rows.take(pa.array(missing)))
            images[missing] = made
            with _naming(self._folder):
                self._write({names[i]: (entries[i], image) for i, image in zip(missing, made, strict=True) if names[i]})
        return images

    def _look(self) -> None:
        """Learn of the entries that were written since."""
        index = self._folder / "index"
        if not index.is_file():
            return
        count = index.stat().st_size // _ENTRY.itemsize
        offset = self._known * _ENTRY.itemsize
        fresh = np.fromfile(index, _ENTRY, count - self._known, offset=offset) if count > self._known else ()
        for slot, (name, crc) in enumerate(fresh, self._known):
            self._slots[name.decode()] = slot, int(crc)
        self._known = max(self._known, count)

    def _read(self, entry: tuple[int, int] | None, into: Tensor) -> bool:
        if entry is None:
            return False
        (slot, crc), pixels = entry, _bytes_of(into)
        with open(self._folder / "pixels", "rb") as file:
            length = os.preadv(file.fileno(), [pixels], slot * self._bytes)
        if length == self._bytes and zlib.crc32(pixels) == crc:
            return True
        logging.getLogger(__name__).warning("record %d of %s is damaged: decoding its image", slot, self._folder)
        return False

    def _write(self, images: dict[str, tuple[tuple[int, int] | None, Tensor]]) -> None:
        """Append images, each beside the entry that did not serve, but those that someone else has appended since."""
        with self._lock, open(self._folder / "index", "ab") as index, open(self._folder / "pixels", "ab") as file:
            fcntl.flock(index, fcntl.LOCK_EX)
            count = os.fstat(index.fileno()).st_size // _ENTRY.itemsize
            index.truncate(count * _ENTRY.itemsize)
            file.truncate(count * self._bytes)
            self._look()
            fresh = [(name, image) for name, (entry, image) in images.items() if self._slots.get(name) == entry]
            entries = np.array([(name.encode(), zlib.crc32(_bytes_of(image))) for name, image in fresh], _ENTRY)
            for _, image in fresh:
                file.write(_bytes_of(image))
            file.flush()
            index.write(entries.tobytes())


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Raises ValueError that names the folder where it cannot be written to, or is full."""
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"decoded images cannot be kept in {folder}: {error.strerror}; let EVERGREEN_DECODED name a folder with "
            "room that can be written to, or unset it"
        ) from error


def _bytes_of(image: Tensor) -> memoryview:
    """The pixels of one image of a batch that lies channels last, in place."""
    return memoryview(image.permute(1, 2, 0).numpy()).cast("B")
