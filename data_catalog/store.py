"""The artifact store: bytes by SHA-256, written atomically, verified when read.

It is a folder, or lies in object storage (`remote_store`) with a folder as its cache.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog import presence, remote_store, store_cache, trash
from data_catalog.object_storage import ObjectStorage
from data_catalog.places import store_root, store_url
from data_catalog.store_files import digest_of_content, move_into_place, scratch_file, write_atomically


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
    if remote_store.storage() is not None:
        with writing(**origin) as artifact:
            artifact.path.write_bytes(data)
        return artifact.digest
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
        _place(artifact)
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
    if (there := remote_store.storage()) is not None:
        return _located(there, digest, path)
    if not _is_there(path):
        raise MissingArtifact(_absent(digest, "is not in"))
    if digest_of_file(path) != digest:
        raise MissingArtifact(
            f"{digest[:19]} in the store at {store_root()} is damaged: its bytes have the digest "
            f"{digest_of_file(path)[:19]}; run the stage again that makes it"
        )
    return path


def is_intact(digest: str) -> bool:
    """Whether the store holds the very bytes that `digest` names.

    In object storage what has the name counts, since its bytes were verified when they came; `locate` verifies them
    again. What only this machine still has is brought back there.
    """
    path = path_of(digest)
    if (there := remote_store.storage()) is not None:
        if remote_store.is_there(there, digest):
            return True
        if path.is_file() and digest_of_file(path) == digest:
            remote_store.upload(there, digest, path)
            return True
        return False
    return _is_there(path) and digest_of_file(path) == digest


def require(digest: str) -> None:
    """Raise MissingArtifact unless the store holds the artifact; fetches nothing."""
    if remote_store.storage() is None:
        locate(digest)
    elif not is_intact(digest):
        raise MissingArtifact(_absent(digest, "is not in"))


def peek(digest: str) -> bytes | None:
    """The bytes of an artifact, None if it is gone; takes nothing out of the trash."""
    if remote_store.storage() is not None:
        with contextlib.suppress(MissingArtifact):
            return read_bytes(digest)
        return None
    with contextlib.suppress(FileNotFoundError):
        return path_of(digest).read_bytes()
    return None


class Stored(NamedTuple):
    """What a look at an artifact tells."""

    size: int
    modified: float  # seconds since 1970, by the clock of the store
    links: int  # more than one: files outside of the store share its bytes


def stat_of(digest: str) -> Stored | None:
    """A look at an artifact, None if it is not there; the trash does not count."""
    if (there := remote_store.storage()) is not None:
        found = remote_store.stat(there, digest)
        return found and Stored(found.size, (found.changed_ns or time.time_ns()) / 1e9, 1)
    with contextlib.suppress(FileNotFoundError):
        stat = path_of(digest).stat()
        return Stored(stat.st_size, stat.st_mtime, stat.st_nlink)
    return None


def clock() -> float:
    """Seconds since 1970 by the clock that `Stored.modified` goes by."""
    there = remote_store.storage()
    return time.time() if there is None else presence.clock(there)


@contextlib.contextmanager
def as_stored(digest: str) -> Iterator[Path | None]:
    """A file with the bytes that the store has now, unverified, for the block; None if it has none."""
    there, path = remote_store.storage(), path_of(digest)
    if there is None:
        yield path if path.is_file() else None
        return
    with scratch_file(store_root(), "look") as scratch:
        yield scratch if there.fetch(remote_store.key_of(digest), scratch) else None


def origins(digest: str) -> list[dict]:
    """Every recorded way in which the artifact was made, oldest first: spec, parents, code version, time."""
    records = [json.loads(path.read_text()) for path in manifests(digest)]
    return sorted(records, key=lambda record: record["recorded_at"])


def manifests(digest: str) -> list[Path]:
    """The files of `origins`."""
    there, folder = remote_store.storage(), manifests_of(digest)
    return sorted(folder.glob("*.json")) if there is None else remote_store.manifests(there, folder)


def adopt(digest: str, file: Path, told: Mapping[str, bytes]) -> None:
    """Take an artifact of another store, whose bytes are verified, with its manifests by name; the file stays."""
    if (there := remote_store.storage()) is not None:
        remote_store.upload(there, digest, file)
    elif not is_intact(digest):
        with scratch_file(store_root(), "adopted") as scratch:
            shutil.copyfile(file, scratch)
            if digest_of_content(scratch) != digest:
                raise OSError(f"the copy of {file} is not {digest[:19]}: look after the disk, and copy it again")
            move_into_place(scratch, path_of(digest))
    for name, data in told.items():
        _record(manifests_of(digest) / name, data)


def stored_digests() -> Iterator[str]:
    """The digests of all artifacts in the store."""
    if (there := remote_store.storage()) is not None:
        yield from remote_store.digests(there)
        return
    for path in sorted((store_root() / "objects").glob("??/*")):
        if not path.name.startswith("."):
            yield f"sha256:{path.name}"


def path_of(digest: str) -> Path:
    """Where the bytes of an artifact lie on this machine if they are there; `locate` gives them verified."""
    return store_root() / "objects" / digest[7:9] / digest[7:]


def manifests_of(digest: str) -> Path:
    """The folder of what is recorded about an artifact."""
    return store_root() / "manifests" / digest[7:9] / digest[7:]


def _with_origin(digest: str, origin: dict) -> str:
    if origin:
        text = json.dumps(origin, sort_keys=True, default=_plain)
        record = manifests_of(digest) / f"{digest_of(text.encode())[7:23]}.json"
        _record(record, json.dumps(json.loads(text) | {"recorded_at": time.time()}, sort_keys=True).encode())
    return digest


def _record(manifest: Path, data: bytes) -> None:
    """Keep a manifest unless there is one of that name."""
    if (there := remote_store.storage()) is not None:
        remote_store.add_manifest(there, manifest, data)
    elif not manifest.is_file():
        write_atomically(manifest, data)


def _place(artifact: Writing) -> None:
    """Give finished bytes their name: in object storage first, since only then the digest may be told."""
    there, path, digest = remote_store.storage(), path_of(artifact.digest), artifact.digest
    if there is None:
        if not is_intact(digest):
            move_into_place(artifact.path, path)
        return
    remote_store.upload(there, digest, artifact.path)
    if not (path.is_file() and digest_of_file(path) == digest):
        size = artifact.path.stat().st_size
        move_into_place(artifact.path, path)
        store_cache.grown(size)


def _located(there: ObjectStorage, digest: str, path: Path) -> Path:
    """The verified file in the cache of a store in object storage."""
    if path.is_file() and digest_of_file(path) != digest:
        path.unlink(missing_ok=True)  # damaged here; the truth lies there
    if not path.is_file() and (fault := remote_store.fetch(there, digest, path)):
        raise MissingArtifact(_absent(digest, fault))
    store_cache.used(path)
    return path


def _absent(digest: str, fault: str) -> str:
    return (
        f"{digest[:19]} {fault} the store at {store_url() or store_root()}: set EVERGREEN_STORE to the store "
        "that has it, or run the stage again that makes it"
    )


def _plain(value: object) -> object:
    return value.model_dump(mode="json")  # specs and references are the only other values an origin holds


def _is_there(path: Path) -> bool:
    return path.is_file() or trash.restore(path)


@lru_cache(maxsize=65536)
def _digest_of_file(path: str, mtime_ns: int, size: int, inode: int) -> str:
    return digest_of_content(Path(path))
