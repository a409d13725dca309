"""The artifact store: bytes by SHA-256, written atomically, verified when read."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog import trash
from data_catalog.places import store_root
from data_catalog.store_files import move_into_place, scratch_file, write_atomically


class MissingArtifact(LookupError):
    """The store lacks bytes that a reference names, or holds them damaged."""


def digest_of(data: bytes) -> str:
    """The digest under which `data` lies in the store."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of_file(path: Path) -> str:
    """The digest of a file, computed once per (inode, size, time of change)."""
    stat = path.stat()
    return _digest_of_file(str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino)


def write_bytes(data: bytes, **origin) -> str:
    """Store `data` and return its digest; `origin` says how it came to be and goes to a manifest beside it."""
    digest = digest_of(data)
    if not is_intact(digest):
        write_atomically(path_of(digest), data)
    return _with_origin(digest, origin)


class Writing:
    """An artifact in the making: fill the file at `path`, read `digest` once the block has ended."""

    path: Path
    digest: str


@contextlib.contextmanager
def writing(**origin) -> Iterator[Writing]:
    """A scratch file whose bytes become an artifact when the block succeeds, for what is too large for memory."""
    artifact = Writing()
    with scratch_file(store_root(), "artifact") as artifact.path:
        yield artifact
        artifact.digest = digest_of_file(artifact.path)
        if not is_intact(artifact.digest):
            move_into_place(artifact.path, path_of(artifact.digest))
    _with_origin(artifact.digest, origin)


def write_table(table: pa.Table, **origin) -> str:
    """Store `table` as Parquet and return the digest of the file."""
    with writing(**origin) as artifact:
        pq.write_table(table, artifact.path, compression="zstd")
    return artifact.digest


def read_table(digest: str, columns: list[str] | None = None) -> pa.Table:
    """The table stored under `digest`; raises MissingArtifact."""
    return pq.read_table(locate(digest), columns=columns)


def read_bytes(digest: str) -> bytes:
    """The bytes stored under `digest`; raises MissingArtifact."""
    return locate(digest).read_bytes()


def locate(digest: str) -> Path:
    """The verified file of an artifact; raises MissingArtifact if it is absent or its bytes have changed."""
    path = path_of(digest)
    if not _is_there(path):
        raise MissingArtifact(
            f"{digest[:19]} is not in the store at {store_root()}: set EVERGREEN_STORE to the store "
            "that has it, or run the stage again that makes it"
        )
    if digest_of_file(path) != digest:
        raise MissingArtifact(
            f"{digest[:19]} in the store at {store_root()} is damaged: its bytes have the digest "
            f"{digest_of_file(path)[:19]}; run the stage again that makes it"
        )
    return path


def is_intact(digest: str) -> bool:
    """Whether the store holds the very bytes that `digest` names."""
    path = path_of(digest)
    return _is_there(path) and digest_of_file(path) == digest


def origins(digest: str) -> list[dict]:
    """Every recorded way in which the artifact was made, oldest first: spec, parents, code version, time."""
    records = [json.loads(path.read_text()) for path in sorted(manifests_of(digest).glob("*.json"))]
    return sorted(records, key=lambda record: record["recorded_at"])


def stored_digests() -> Iterator[str]:
    """The digests of all artifacts in the store."""
    for path in sorted((store_root() / "objects").glob("??/*")):
        if not path.name.startswith("."):
            yield f"sha256:{path.name}"


def path_of(digest: str) -> Path:
    """Where the bytes of an artifact lie if they are there; `locate` gives them verified."""
    return store_root() / "objects" / digest[7:9] / digest[7:]


def manifests_of(digest: str) -> Path:
    """The folder of what is recorded about an artifact."""
    return store_root() / "manifests" / digest[7:9] / digest[7:]


def _with_origin(digest: str, origin: dict) -> str:
    if origin:
        text = json.dumps(origin, sort_keys=True, default=_plain)
        record = manifests_of(digest) / f"{digest_of(text.encode())[7:23]}.json"
        if not record.is_file():
            write_atomically(
                record, json.dumps(json.loads(text) | {"recorded_at": time.time()}, sort_keys=True).encode()
            )
    return digest


def _plain(value: object) -> object:
    return value.model_dump(mode="json")  # specs and references are the only other values an origin holds


def _is_there(path: Path) -> bool:
    return path.is_file() or trash.restore(path)


@lru_cache(maxsize=65536)
def _digest_of_file(path: str, mtime_ns: int, size: int, inode: int) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
