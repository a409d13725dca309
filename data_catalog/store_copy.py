"""Copies a whole store, and the result records, from a folder into object storage, back, or between two of a kind.

Artifacts go first and ledgers last, so that a target that names something has it. Nothing of the target is written
over but what follows from it; whoever was interrupted runs it again.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from data_catalog import in_use, ledger, presence, shared_files, store
from data_catalog.object_storage import checked_place
from data_catalog.outage import Outage
from data_catalog.places import results_root, results_url, store_root, store_url
from data_catalog.refs import Spec
from data_catalog.store import MissingArtifact

POINTERS = {"experiments": "*.ref", "texts": "*/*.json", "tokens": "*/*.json", "scores": "*/*.json"}  # beside artifacts
BATCH, AT_ONCE = 64, 8  # artifacts that are looked for together, and that are on their way at one time
Progress = Callable[[str, float], None]  # what is copied, and which share of it is there


class Copied(Spec):
    """What came of copying a store."""

    source: str
    target: str
    artifacts: int  # of the source, without the lost ones
    size: int  # bytes of those
    ledgers: dict[str, int]  # entries of each
    results: int | None  # records; None: not asked for
    lost: tuple[str, ...]  # why artifacts of the source were not copied


class Place(NamedTuple):
    """A folder or a URL for the store, and one for result records."""

    store: str
    results: str | None = None

    @classmethod
    def here(cls) -> "Place":
        """Those of this environment."""
        return cls(store_url() or str(store_root()), results_url() or str(results_root()))


class Found(NamedTuple):
    """An artifact with its verified file, and its manifests by name."""

    digest: str
    file: Path
    told: dict[str, bytes]


def copy(target: Place, progress: Progress | None = None) -> Copied:
    """Give `target` all that the store of this environment holds, and its result records if it has a place for them.

    Raises ValueError if the target is no place, the same, or has ledgers that went another way; Outage while runs are
    at work.
    """
    source = Place.here()
    target = Place(*(place and checked_place(place, "the place to copy to") for place in target))
    if twice := {source.store, source.results} & {target.store, target.results}:
        raise ValueError(f"{', '.join(map(str, twice))} is where the store or its results are: name another place")
    with _in_peace(source), _at(target), in_use.in_use():
        with _at(source):
            ledgers = {name: ledger.entries(name) for name in ledger.names()}
        for name, entries in ledgers.items():
            _missing(target, name, entries, ledger.entries(name))  # before anything is copied
        artifacts, size, lost = _copy_artifacts(source, progress)
        _copy_files(source, store_root, POINTERS)
        results = _copy_files(source, results_root, {"": "*"}) if target.results else None
        for name, entries in ledgers.items():
            ledger.extend(name, partial(_missing, target, name, entries))
    counted = {name: len(entries) for name, entries in sorted(ledgers.items())}
    return Copied(source=source.store, target=target.store, artifacts=artifacts, size=size, ledgers=counted,
                  results=results, lost=tuple(lost))  # fmt: skip


@contextlib.contextmanager
def _in_peace(source: Place) -> Iterator[None]:
    """Nothing is made and nothing deleted in the store of this environment, for the block."""
    with in_use.sole_housekeeping(), in_use.alone() as alone, presence.sole_housekeeping() as elsewhere:
        if elsewhere or not alone:
            raise Outage(
                f"runs are at work on {source.store}: {', '.join(elsewhere) or 'on this machine'}; copy it when they "
                "have ended (one that was killed on another machine counts as ended after 15 minutes)"
            )
        yield


@contextlib.contextmanager
def _at(place: Place) -> Iterator[None]:
    """Let store and results of this environment be those of `place` for the block."""
    there = {"EVERGREEN_STORE": place.store} | ({"EVERGREEN_RESULTS": place.results} if place.results else {})
    before = {name: os.environ.get(name) for name in there}
    os.environ.update(there)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _missing(target: Place, name: str, entries: list[dict], found: list[dict]) -> list[dict]:
    """What a ledger of the target lacks of `entries`; raises ValueError if it has others, or went on."""
    if found != entries[: len(found)]:
        raise ValueError(
            f"the ledger {name} of {target.store} has other entries than the one here: copy to an empty place, or go "
            "on there"
        )
    return entries[len(found) :]


def _copy_artifacts(source: Place, progress: Progress | None) -> tuple[int, int, list[str]]:
    """How many artifacts this environment's store has of the source, their bytes, and why others were not copied."""
    with _at(source):
        digests = sorted(store.stored_digests())
    sizes, lost = [], []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="copy") as pool:
        for start in range(0, len(digests), BATCH):
            with _at(source):
                found = list(pool.map(_found, digests[start : start + BATCH]))
            lost += [damage for damage in found if isinstance(damage, str)]
            sizes += pool.map(_adopted, (some for some in found if isinstance(some, Found)))
            if progress:
                progress("artifacts", (start + len(found)) / len(digests))
    return len(sizes), sum(sizes), lost


def _found(digest: str) -> Found | str:
    """An artifact of this environment's store; what is wrong with it if it is damaged."""
    try:
        told = {path.name: path.read_bytes() for path in store.manifests(digest)}
        return Found(digest, store.locate(digest), told)
    except MissingArtifact as error:
        return str(error)


def _adopted(some: Found) -> int:
    store.adopt(*some)
    return some.file.stat().st_size


def _copy_files(source: Place, root: Callable[[], Path], wanted: dict[str, str]) -> int:
    """How many small files of some folders were copied."""
    with _at(source):
        paths = [path for folder, pattern in wanted.items() for path in shared_files.below(root() / folder, pattern)]
        found = {path.relative_to(root()): path.read_bytes() for path in paths}
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="copy") as pool:
        list(pool.map(lambda name: shared_files.write(root() / name, found[name]), found))
    return len(found)
