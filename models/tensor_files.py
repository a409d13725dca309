"""Safetensors files read and written by position, so that memory holds a part of a tensor, never a file.

A mapping into memory would count every page that was read as ours, which for twenty checkpoints is all of them.
"""

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in NAMES.items()}
_LONGEST_HEADER = 100_000_000  # bytes, as in the safetensors library


class Entry(NamedTuple):
    """Where a tensor lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    stop: int

    @property
    def numel(self) -> int:
        """How many values it has."""
        return (self.stop - self.start) // self.dtype.itemsize


class TensorFile:
    """A safetensors file whose tensors are read in parts; raises ValueError if it is none, or cut off."""

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 -- as long as this object
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from error
        self.layout = _layout(self.path, self._file)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Values `start` to `stop` of the flat tensor `name`, in the stored type and in memory of their own."""
        entry = self.layout[name]
        stop = entry.numel if stop is None else stop
        values = torch.empty(stop - start, dtype=entry.dtype)
        self.read_into(values, name, start)
        return values

    def read_into(self, values: Tensor, name: str, start: int = 0) -> None:
        """Fill the contiguous `values`, of the stored type, with those of the flat tensor `name` from `start` on."""
        entry = self.layout[name]
        wanted = memoryview(values.view(torch.uint8).numpy()) if values.numel() else memoryview(b"")
        done, at = 0, entry.start + start * entry.dtype.itemsize
        while done < len(wanted):
            count = os.preadv(self._file.fileno(), [wanted[done:]], at + done)
            if not count:
                raise ValueError(f"{self.path} ended while it was read; give the whole file")
            done += count

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class TensorFileWriter:
    """A safetensors file of known layout, filled in any order; equal tensors give equal bytes."""

    def __init__(self, path: Path, kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]):
        header, self.layout = header_of(kinds)
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 -- until `close`
        self._file.write(header)
        self._file.truncate(max((entry.stop for entry in self.layout.values()), default=len(header)))

    def write(self, name: str, start: int, values: Tensor) -> None:
        """Put `values`, of the type of the tensor `name`, into the flat tensor from `start` on."""
        entry = self.layout[name]
        left = memoryview(values.detach().cpu().contiguous().view(torch.uint8).numpy())
        at = entry.start + start * entry.dtype.itemsize
        while left:
            count = os.pwrite(self._file.fileno(), left, at)
            left, at = left[count:], at + count

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def header_of(kinds: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> tuple[bytes, dict[str, Entry]]:
    """The bytes before the tensors, in name order, and where each lies; the header begins with its length."""
    described: dict = {"__metadata__": {"format": "pt"}}
    places, end = {}, 0
    for name in sorted(kinds):
        dtype, shape = kinds[name]
        start, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        described[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
        places[name] = (dtype, tuple(shape), start, end)
    text = json.dumps(described, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = struct.pack("<Q", len(text)) + text
    first = len(header)
    return header, {
        name: Entry(dtype, shape, first + start, first + stop) for name, (dtype, shape, start, stop) in places.items()
    }


def _layout(path: Path, file) -> dict[str, Entry]:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"{path} is no safetensors file, or cut off in its header; give a whole *.safetensors file")
    try:
        described = json.loads(file.read(length))
        described.pop("__metadata__", None)
        layout = {name: _entry(found, 8 + length) for name, found in sorted(described.items())}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no safetensors file: its header does not read ({error!r})") from error
    for name, entry in layout.items():
        if entry.stop > size or entry.stop - entry.start != entry.dtype.itemsize * torch.Size(entry.shape).numel():
            raise ValueError(
                f"{path} is damaged: {name!r} should end at byte {entry.stop} of {size}; give the whole file"
            )
    return layout


def _entry(found: Mapping, first: int) -> Entry:
    if found["dtype"] not in _DTYPES:
        raise ValueError(f"type {found['dtype']}, expected one of {', '.join(_DTYPES)}")
    start, stop = found["data_offsets"]
    return Entry(_DTYPES[found["dtype"]], tuple(found["shape"]), first + start, first + stop)
