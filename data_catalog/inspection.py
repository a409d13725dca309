"""Finding out what a source holds now: what is new, changed or gone, by content; the same for every kind of source.

Files that kept their version (size, time of change, inode; or entity tag) are not opened again, bytes that were looked
at before are not decoded again wherever they lie now, and only what failed for a reason of the moment is tried again.
"""

import hashlib
import json
import logging
import time
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import decisions, inspection_images, registry, store
from data_catalog.inspection_memory import (
    FINDINGS,
    OUTCOMES,
    REVISION,
    UNTRUSTED,
    KnownBytes,
    Look,
    Memory,
    places_of,
)
from data_catalog.quarantine import CODES, RELEASABLE, refusal, refusals
from data_catalog.shards import SAMPLES, with_facts
from data_catalog.sources.images import MAX_BYTES

if TYPE_CHECKING:
    from data_catalog.files import FileStat
    from data_catalog.sources.base import Candidates, Listing, Progress, RawDataset, Source  # which import this module

log = logging.getLogger(__name__)

TICK_NS = 2_000_000_000  # of the coarsest clock of a file system: two changes within it may carry the same time


def scan(source: "Source", progress: "Progress | None" = None) -> list["RawDataset"]:
    """The datasets a source holds now, by name; raises ValueError if two have one name."""
    from data_catalog.sources.base import RawDataset

    inspector = Inspector(source, progress)
    listings = sorted(source.listings(), key=lambda listing: listing.dataset)
    if clash := registry.first_clash(listing.dataset for listing in listings):
        raise ValueError(
            f"source {source.name!r} has two datasets with one name, upper and lower case aside: {clash}; rename one"
        )
    found = []
    for done, listing in enumerate(listings, start=1):
        look = inspector.look(listing)
        found.append(RawDataset(source=source.name, dataset=listing.dataset, digest=look.digest))
        if progress:
            progress(f"scan {source.name}", done, len(listings))
    return found


def tables(source: "Source", raw: "RawDataset") -> Look:
    """The look that found `raw`, its tables in the store; raises ValueError if the data is another by now."""
    look = Memory.of(source.name, raw.dataset).last_look()
    if look and look.digest == raw.digest and look.is_stored():
        return look
    inspector = Inspector(source)
    if (listing := listing_of(source, raw.dataset)) is None:
        raise ValueError(f"{raw.dataset} is no longer in source {source.name!r} at {source.root()}; scan it again")
    look = inspector.look(listing)
    if look.digest != raw.digest:
        raise ValueError(f"{raw.dataset} in {source.root()} changed since it was scanned; scan and ingest it again")
    return look


def listing_of(source: "Source", dataset: str) -> "Listing | None":
    """What lies there of one dataset, None if it is gone."""
    return next((each for each in source.listings() if each.dataset == dataset), None)


def read(source: "Source", raw: "RawDataset") -> tuple[pa.Table, pa.Table]:
    """The usable samples (SAMPLES, with facts) and the refused (QUARANTINE) of a dataset that was scanned."""
    look = tables(source, raw)
    return store.read_table(look.samples), store.read_table(look.refused) if look.refused else refusals([])


def unseen(source: "Source", listing: "Listing") -> tuple[str, list[str]]:
    """The fingerprint of a listing, and which of its files no look has seen as they are now; nothing is opened.

    None are unseen where the latest look was at just this; of data indexed unread all are, where it was not.
    """
    memory, fingerprint = Memory.of(source.name, listing.dataset), Inspector(source).fingerprint(listing)
    if fingerprint == memory.last_fingerprint():
        return fingerprint, []
    known = memory.outcomes()
    versions = (version and version.removeprefix(UNTRUSTED) for version in known["version"].to_pylist())
    seen = set(zip(known["file"].to_pylist(), versions, strict=True))
    return fingerprint, [name for name, stat in listing.files.items() if (name, stat.version) not in seen]


class Inspector:
    """One look at the datasets of a source; make it before anything is listed, since clocks are compared with it."""

    def __init__(self, source: "Source", progress: "Progress | None" = None):
        self.source, self.progress = source, progress
        self.began = time.time_ns()
        source.locate()

    @cached_property
    def released(self) -> dict[str, str]:
        """Samples that are accepted although a check refuses them."""
        return decisions.released()

    @cached_property
    def known_bytes(self) -> KnownBytes:
        """Loaded with the first image that must be read."""
        return KnownBytes()

    def look(self, listing: "Listing") -> Look:
        """What the dataset holds: as recorded where nothing changed, else from metadata, memory and new bytes."""
        memory, fingerprint = Memory.of(self.source.name, listing.dataset), self.fingerprint(listing)
        if last := last_at(memory, fingerprint):
            return last
        candidates = self.source.candidates(listing)
        rows = candidates.rows.combine_chunks()
        ids = pc.binary_join_element_wise(listing.dataset, rows["split"], rows["key"], "/").combine_chunks()
        outcomes = _without_repeats(ids, self._outcomes(listing, rows, memory))
        look = self._stored(listing, fingerprint, candidates._replace(rows=rows), ids, outcomes)
        memory.keep_look(look)
        return look

    def _stored(
        self, listing: "Listing", fingerprint: str, candidates: "Candidates", ids: pa.Array, outcomes: pa.Table
    ) -> Look:
        accepted = self._accepted(ids, outcomes)
        samples = _samples(listing.dataset, ids, candidates.rows, outcomes).filter(accepted).combine_chunks()
        of_images = list(_refused(ids, candidates.rows, outcomes, pc.invert(accepted)))
        refused = refusals([*candidates.refused, *of_images])
        origin = {"stage": "inspect", "source": self.source.name, "dataset": listing.dataset}
        stored = store.write_table(with_facts(samples, candidates.facts), **origin)
        against = store.write_table(refused, **origin) if refused.num_rows else None
        versions = _versions(listing) if self.source.check == "index" else None  # else the hashes are in `samples`
        digest = store.digest_of(json.dumps([stored, against, versions]).encode())
        is_settled = all(self._is_trusted(stat) for stat in listing.files.values()) and all(
            CODES[row["code"]].lasting for row in of_images
        )
        return Look(fingerprint, digest, stored, against, is_settled)

    def fingerprint(self, listing: "Listing") -> str:
        """Of everything that decides what a look finds but the bytes of files that kept their version."""
        released = sorted(name for name in self.released if name.startswith(f"{listing.dataset}/"))
        content = [REVISION, self.source.check, listing.facts, _versions(listing), released]
        return store.digest_of(json.dumps(content).encode())

    def _is_trusted(self, stat: "FileStat") -> bool:
        """False if another change could carry the same time: one in the future, or too close to this look."""
        return stat.mtime_ns is None or stat.mtime_ns < self.began - TICK_NS

    def _outcomes(self, listing: "Listing", rows: pa.Table, memory: Memory) -> pa.Table:
        """What is known of the image of each row (schema OUTCOMES), read where nothing is known."""
        blank = self._blank(listing, rows)
        if self.source.check == "index":
            return blank
        known = memory.outcomes().combine_chunks()
        at, is_sound = _remembered(blank, known), blank["code"].is_null()
        unread = pc.and_(at.is_null(), is_sound)
        fresh = OUTCOMES.empty_table()
        if pc.any(unread).as_py():
            fresh = inspection_images.inspect(
                rows.filter(unread), blank.filter(unread), self.source, self.known_bytes, memory, self.progress
            )
        memory.settle({name: stat.version for name, stat in listing.files.items()})
        choice = np.arange(rows.num_rows)
        remembered = pc.and_(at.is_valid(), is_sound).to_numpy()
        choice[remembered] = rows.num_rows + at.filter(pa.array(remembered)).to_numpy()
        choice[unread.to_numpy()] = rows.num_rows + known.num_rows + np.arange(fresh.num_rows)
        return pa.concat_tables([blank, known, fresh]).take(choice).combine_chunks()

    def _blank(self, listing: "Listing", rows: pa.Table) -> pa.Table:
        return _blank(rows, listing, {name: self._is_trusted(stat) for name, stat in listing.files.items()})

    def unread(self, listing: "Listing") -> tuple[pa.Table, pa.Table, np.ndarray]:
        """Every row of a dataset, what is known of it by a look at its file, and the places of those to be read.

        Without those whose file is so new that it may still change unseen: they are read at the next look in any case.
        """
        rows = self.source.candidates(listing).rows.combine_chunks()
        blank = self._blank(listing, rows)
        known = Memory.of(self.source.name, listing.dataset).outcomes().combine_chunks()
        is_new = pc.and_(_remembered(blank, known).is_null(), blank["code"].is_null())
        to_read = pc.and_(is_new, pc.invert(_may_repeat(blank)))
        return rows, blank, np.flatnonzero(to_read.to_numpy())

    def _accepted(self, ids: pa.Array, outcomes: pa.Table) -> pa.ChunkedArray:
        is_sound = outcomes["code"].is_null()
        if not self.released:
            return is_sound
        may = pc.is_in(outcomes["code"], value_set=pa.array(RELEASABLE, pa.string()))
        return pc.or_(is_sound, pc.and_(may, pc.is_in(ids, value_set=pa.array(list(self.released), pa.string()))))


def last_at(memory: Memory, fingerprint: str) -> Look | None:
    """The latest look if it was at just this and need not be repeated."""
    last = memory.last_look()
    return last if last and last.fingerprint == fingerprint and last.is_settled and last.is_stored() else None


def _remembered(blank: pa.Table, known: pa.Table) -> pa.Array:
    """Which row of `known` tells of each image, null where none does or its file may have changed unseen."""
    at = pc.index_in(places_of(blank), value_set=places_of(known))
    return pc.if_else(_may_repeat(blank), pa.scalar(None, pa.int32()), at)


def _may_repeat(blank: pa.Table) -> pa.Array:
    """Whether the file of each image may change without another version."""
    return pc.fill_null(pc.starts_with(blank["version"], UNTRUSTED).combine_chunks(), True)


def _versions(listing: "Listing") -> str:
    lines = (f"{name}\0{stat.version}\0{stat.fault}" for name, stat in sorted(listing.files.items()))
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _blank(rows: pa.Table, listing: "Listing", is_trusted: dict[str, bool]) -> pa.Table:
    """Rows of OUTCOMES that say which bytes are meant, and what a look at the file alone rules out."""
    encoded = rows["file"].combine_chunks().dictionary_encode()
    names = encoded.dictionary.to_pylist()
    stats = [listing.files.get(name) for name in names]
    versions = [
        None if stat is None else stat.version if is_trusted[name] else f"{UNTRUSTED}{stat.version}"
        for name, stat in zip(names, stats, strict=True)
    ]
    against = ["is not there" if stat is None else stat.fault for stat in stats]
    fault = pa.array(against, pa.string()).take(encoded.indices)
    none = pa.scalar(None, pa.string())
    empty, huge = pc.equal(rows["length"], 0), pc.greater(rows["length"], MAX_BYTES)
    by_length = pc.if_else(empty, "empty", pc.if_else(huge, "too_large", none))
    said = pc.binary_join_element_wise(pc.cast(rows["length"], pa.string()), " bytes", "")
    columns = [rows["file"], pa.array(versions, pa.string()).take(encoded.indices), rows["offset"], rows["length"]]
    columns += [pa.nulls(rows.num_rows, OUTCOMES.field(name).type) for name in FINDINGS]
    columns += [pc.if_else(fault.is_valid(), "unusable_file", by_length)]
    columns += [pc.if_else(fault.is_valid(), pc.binary_join_element_wise("the file ", fault, ""),
                           pc.if_else(by_length.is_valid(), said, none))]  # fmt: skip
    return pa.table(columns, OUTCOMES).combine_chunks()


def _without_repeats(ids: pa.Array, outcomes: pa.Table) -> pa.Table:
    """The outcomes with a refusal for every sample whose id an earlier one has."""
    codes = ids.dictionary_encode()
    if len(codes.dictionary) == len(ids):
        return outcomes
    is_first = np.zeros(len(ids), bool)
    is_first[np.unique(codes.indices.to_numpy(), return_index=True)[1]] = True
    for name, value in (("code", "duplicate_id"), ("reason", "an earlier sample has the same split and key")):
        column = pc.if_else(pa.array(is_first), outcomes[name], value)
        outcomes = outcomes.set_column(outcomes.column_names.index(name), OUTCOMES.field(name), column)
    return outcomes


def _samples(dataset: str, ids: pa.Array, rows: pa.Table, outcomes: pa.Table) -> pa.Table:
    columns = {"id": ids, "dataset": pa.repeat(pa.scalar(dataset), len(ids))}
    columns |= {name: outcomes[name] for name in FINDINGS}
    return pa.table([columns[name] if name in columns else rows[name] for name in SAMPLES.names], SAMPLES)


def _refused(ids: pa.Array, rows: pa.Table, outcomes: pa.Table, is_refused: pa.ChunkedArray) -> list[dict]:
    columns = (pa.chunked_array([ids]), rows["shard"], outcomes["code"], outcomes["reason"])
    found = (column.filter(is_refused).to_pylist() for column in columns)
    return [refusal(*row) for row in zip(*found, strict=True)]
