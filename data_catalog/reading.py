"""Reading image bytes by position from where they lie."""

import hashlib
import os
from pathlib import Path

from data_catalog import places


def read_sample(shard: str, offset: int, length: int, hash: bytes) -> bytes:
    """The bytes of one image; raises ValueError naming shard and place if they are not those that were ingested."""
    data = read_range(places.locate_shard(shard), offset, length)
    if hashlib.sha256(data).digest() != hash:
        raise ValueError(
            f"the {length} bytes at {offset} of {shard} changed since they were ingested: expected "
            f"SHA-256 {hash.hex()[:16]}, found {hashlib.sha256(data).hexdigest()[:16]} in {len(data)} bytes; "
            "restore the file or ingest it again"
        )
    return data


def read_range(path: Path, offset: int, length: int) -> bytes:
    """Up to `length` bytes of a file from `offset`; fewer if it ends before."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} is gone since it was ingested: restore it, or set EVERGREEN_SOURCES to its new root"
        ) from error
