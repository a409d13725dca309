"""Artifacts and manifests in object storage: the truth lies there, the folder `store_root` keeps what was used here.

An artifact is uploaded under its digest before the digest is given to anybody, and only ever created, never written
over; what is fetched is hashed before it counts. So an interrupted writer leaves nothing that has a name.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

from data_catalog import store_cache
from data_catalog.file_stats import FileStat
from data_catalog.object_storage import PART, ObjectStorage, storage_at
from data_catalog.places import store_root, store_url
from data_catalog.store_files import digest_of_content, move_into_place, scratch_file, write_atomically

log = logging.getLogger(__name__)

OBJECTS, MANIFESTS = "objects", "manifests"
_listed: ContextVar[dict[str, FileStat] | None] = ContextVar("listed", default=None)


def storage() -> ObjectStorage | None:
    """Where the artifacts are, None if the store is a folder."""
    url = store_url()
    return None if url is None else storage_at(url)


def key_of(digest: str, kind: str = OBJECTS) -> str:
    """The key of an artifact, or of the folder of its manifests."""
    return f"{kind}/{digest[7:9]}/{digest[7:]}"


def upload(there: ObjectStorage, digest: str, path: Path) -> None:
    """Make the file the artifact `digest` unless it is one already; raises Outage."""
    size, key = path.stat().st_size, key_of(digest)
    if size <= PART and there.create_from(key, path):
        return  # in one request, whose checksum the service verified
    found = there.stat(key)
    if found is None:
        there.create_from(key, path)
        found = there.stat(key)
    if found is None or found.size != size:  # only damage has another size under this name
        log.warning("%s/%s has %s bytes, not %d: written anew", there.url, key, found and found.size, size)
        there.replace_from(key, path)


def fetch(there: ObjectStorage, digest: str, path: Path) -> str | None:
    """Bring an artifact to `path` in the cache; why that cannot be done, None if it was.

    Bytes that twice are not what their name says are moved out of the way, so that whoever can makes them again.
    """
    with _locks(os.getpid()).setdefault(digest, threading.Lock()):  # threads that want one artifact fetch it once
        if path.is_file():  # another thread was quicker
            return None
        for _ in range(2):
            with scratch_file(store_root(), "fetched") as scratch:
                if not there.fetch(key_of(digest), scratch):
                    return "is not in"
                if (found := digest_of_content(scratch)) == digest:
                    size = scratch.stat().st_size
                    move_into_place(scratch, path)
                    store_cache.grown(size)
                    return None
                log.warning("%s of %s came with the digest %s", digest[:19], there.url, found[:19])
        _set_aside(there, digest)
    return "was damaged and is now set aside, under `damaged`, in"


def is_there(there: ObjectStorage, digest: str) -> bool:
    """Whether the artifact has its name in object storage; its bytes are verified when they are fetched."""
    return stat(there, digest) is not None


def stat(there: ObjectStorage, digest: str) -> FileStat | None:
    """What the service tells of an artifact."""
    listed = _listed.get()
    return there.stat(key_of(digest)) if listed is None else listed.get(key_of(digest))


def digests(there: ObjectStorage) -> list[str]:
    """All artifacts, sorted."""
    return [f"sha256:{key.rpartition('/')[2]}" for key in _below(there, OBJECTS)]


def add_manifest(there: ObjectStorage, path: Path, data: bytes) -> None:
    """Record how an artifact came to be, unless the same is recorded."""
    if there.create(str(path.relative_to(store_root())), data):
        write_atomically(path, data)


def manifests(there: ObjectStorage, folder: Path) -> list[Path]:
    """The manifests of an artifact, each brought here."""
    keys = _below(there, str(folder.relative_to(store_root())))
    _bring(there, [key for key in keys if not (store_root() / key).is_file()])
    return [path for key in keys if (path := store_root() / key).is_file()]


def delete(there: ObjectStorage, digests: list[str], with_manifests: list[str]) -> None:
    """Delete artifacts, there and here, and all that is recorded about some."""
    keys = [key_of(digest) for digest in digests]
    keys += [key for digest in with_manifests for key in _below(there, key_of(digest, MANIFESTS))]
    there.delete(keys)
    for key in keys:
        (_listed.get() or {}).pop(key, None)
        (store_root() / key).unlink(missing_ok=True)


@contextlib.contextmanager
def listed_once() -> Iterator[None]:
    """Answer from one look at the whole store for the block, which nobody changes meanwhile; nothing for a folder."""
    there = storage()
    if there is None or _listed.get() is not None:
        yield
        return
    found = there.below(OBJECTS) | there.below(MANIFESTS)
    _bring(there, [key for key in found if key.startswith(MANIFESTS) and not (store_root() / key).is_file()])
    token = _listed.set(found)  # what is deleted in the block leaves it
    try:
        yield
    finally:
        _listed.reset(token)


def _below(there: ObjectStorage, folder: str) -> list[str]:
    listed = _listed.get()
    if listed is None:
        return sorted(there.below(folder))
    return sorted(key for key in listed if key.startswith(f"{folder}/"))


def _bring(there: ObjectStorage, keys: list[str]) -> None:
    def bring(key: str) -> None:
        if (data := there.find(key)) is not None:
            write_atomically(store_root() / key, data)

    there.each(bring, keys)


@lru_cache(maxsize=1)
def _locks(process: int) -> dict[str, threading.Lock]:
    """By digest; a fork begins anew, since one may have been held when it was made."""
    return {}


def _set_aside(there: ObjectStorage, digest: str) -> None:
    """Free the name of a damaged artifact; its bytes stay, to be looked at."""
    with scratch_file(store_root(), "damaged") as scratch:
        if there.fetch(key_of(digest), scratch) and digest_of_content(scratch) != digest:
            there.replace_from(f"damaged/{digest[7:]}", scratch)
            there.delete([key_of(digest)])
