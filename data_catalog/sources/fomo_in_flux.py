"""Datasets in the on-disk format of FoMo-in-Flux (arXiv 2408.14471; reference section 2.2), read where they lie."""

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import files, metadata, metadata_tables, registry
from data_catalog.quarantine import refusal
from data_catalog.shards import DatasetFacts
from data_catalog.sources import layout
from data_catalog.sources.base import CANDIDATES, Candidates, Listing, Location, Presence, Source

log = logging.getLogger(__name__)


class FomoInFlux(Source):
    """Folders or untouched tars of images under `data`, JSON files under `metadata`; nothing is unpacked or copied."""

    kind: Literal["fomo_in_flux"] = "fomo_in_flux"
    name: str = Field("fomo_in_flux", pattern=r"^\w[\w.-]*$")
    data: Location  # folder or URL of the images
    metadata: Location | None = None  # the folder of the JSON files, by default `data`
    datasets: tuple[str, ...] | None = None  # by any accepted name; by default all that are there
    resized: bool = False  # use the copies at 224 pixels where the release has them and they are there

    def root(self) -> str:
        return files.absolute(self.data)

    def listings(self) -> list[Listing]:
        found = self._found()
        incomplete = [each for each in found if not each.is_usable and (each.metadata or self.datasets is not None)]
        lines = [f"{each.entry.info_prefix} is left out, missing: {', '.join(each.missing)}" for each in incomplete]
        if lines and self.datasets is not None:
            raise ValueError(
                f"source {self.name!r} lacks files of {len(lines)} of the datasets it was asked for, looked in "
                f"{self.root()} and {self._metadata()}:\n  "
                + "\n  ".join(lines)
                + "\nput them there, or change `datasets`"
            )
        for line in lines:
            log.warning("%s: %s", self.name, line)
        usable = [each for each in found if each.is_usable]
        if not usable:
            raise ValueError(
                f"no dataset is whole in {self.root()} and {self._metadata()}: looked for datasets.json and for "
                f"<NAME>_<split>.json[.gz], <NAME>_classnames.json and <NAME>.tar or <NAME>/ of {len(found)} known "
                f"datasets; {lines[:3] or 'set `metadata` to the folder of the JSON files'}"
            )
        return [self._listing(each) for each in sorted(usable, key=lambda each: each.entry.info_prefix)]

    def presence(self) -> list[Presence]:
        """What is there and what is missing of every dataset this folder may hold."""
        return [Presence(each.entry.info_prefix, _state(each), each.missing) for each in self._found()]

    def candidates(self, listing: Listing) -> Candidates:
        found = self._files(self._resolve(listing.dataset))
        facts = layout.read_facts(found)
        images, unusable = layout.index_images(found, self.root())
        splits = [self._split(found, split, facts, images) for split in found.metadata]
        refused = [row for _, against, _ in splits for row in against]
        refused += self._unclaimed(found, images, splits)
        refused += [refusal(f"{facts.name}/{name}", self._shard(found.tar), code, why) for name, code, why in unusable]
        return Candidates(facts, pa.concat_tables([rows for rows, _, _ in splits]), refused)

    def _split(
        self, found: layout.DatasetFiles, split: str, facts: DatasetFacts, images: pa.Table
    ) -> tuple[pa.Table, list[dict], pa.Array]:
        """The usable samples of one split, what is refused of it, and which rows of `images` it lays claim to."""
        prefix, paths = layout.resized_prefix(found.entry, split), found.metadata[split]
        parts = [metadata_tables.read_table(paths[suffix]) if suffix in paths else None for suffix in ("", "_224")]
        entries = metadata_tables.joined(*parts, prefix)
        at, claims = self._places(found.entry, entries["key"], prefix, images)
        codes = _codes(entries, facts, at)
        sound = codes.is_null()
        places = images.take(at.filter(sound))
        entries_used = entries.filter(sound)
        columns = {name: entries_used[name] for name in ("key", "target", *metadata.CAPTIONS)}
        columns |= {"split": _constant(split, len(places)), "concept": entries_used["classname"]}
        columns |= {name: places[name] for name in ("offset", "length", "file")}
        columns |= {"shard": pc.binary_join_element_wise(self.name, places["file"], "/")}
        columns |= {"attributes": pa.nulls(len(places), pa.string())}
        rows = pa.table([columns[name] for name in CANDIDATES.names], CANDIDATES)
        return rows, list(self._refused(entries, codes, at, split, facts, images)), claims

    def _places(
        self, entry: registry.DatasetEntry, keys: pa.ChunkedArray, prefix: str, images: pa.Table
    ) -> tuple[pa.ChunkedArray, pa.Array]:
        """Per entry the row of `images` that shows it, and all rows that show one: the resized copies too."""
        known = images["name"].combine_chunks()
        original = pc.index_in(keys, value_set=known)
        resized = pc.index_in(pc.binary_join_element_wise(prefix, keys, ""), value_set=known)
        claims = pa.chunked_array(
            [*original.drop_null().chunks, *resized.drop_null().chunks], pa.int32()
        ).combine_chunks()
        if self.resized and entry.has_resized:
            return pc.coalesce(resized, original), claims
        return pc.coalesce(original, resized), claims

    def _refused(
        self, entries: pa.Table, codes: pa.ChunkedArray, at: pa.ChunkedArray, split: str, facts: DatasetFacts,
        images: pa.Table,
    ) -> Iterator[dict]:  # fmt: skip
        refused = codes.is_valid()
        places = images["file"].take(at.filter(refused)).to_pylist()
        for row, code, file in zip(
            entries.filter(refused).to_pylist(), codes.drop_null().to_pylist(), places, strict=True
        ):
            identity = f"{facts.name}/{split}/{row['key']}"
            shard = self._shard(file or f"{facts.name}/{row['key']}")
            yield refusal(identity, shard, code, _reason(code, row, facts))

    def _unclaimed(self, found: layout.DatasetFiles, images: pa.Table, splits: list) -> list[dict]:
        """A refusal for each image without a metadata entry; none where a whole metadata file is missing."""
        if any(file.endswith(".json") and "_classnames" not in file for file in found.missing):
            return []
        name, claimed = found.entry.info_prefix, pa.concat_arrays([claims for _, _, claims in splits])
        rows = pa.array(range(images.num_rows), pa.int32())
        left = images.filter(pc.invert(pc.is_in(rows, value_set=claimed))).sort_by("name")
        reason = "no metadata entry for this image"
        return [
            refusal(f"{name}/{row['name']}", self._shard(row["file"]), "no_entry", reason) for row in left.to_pylist()
        ]

    def _listing(self, found: layout.DatasetFiles) -> Listing:
        small = {f"metadata:{name}": stat for name, stat in found.small.items()}
        facts = {"entry": found.entry.model_dump(mode="json"), "resized": self.resized}
        return Listing(found.entry.info_prefix, small | found.images, json.dumps(facts, sort_keys=True))

    def _found(self) -> list[layout.DatasetFiles]:
        if self.datasets is None:
            return [self._files(entry) for entry in layout.described(self._metadata())]
        chosen = {entry.info_prefix: entry for entry in map(self._resolve, self.datasets)}
        return [self._files(entry) for entry in chosen.values()]

    def _resolve(self, name: str) -> registry.DatasetEntry:
        known = registry.by_name(layout.described(self._metadata()))
        if name not in known:
            raise ValueError(f"source {self.name!r} knows no dataset {name!r}; {registry.close_to(name, known)}")
        return known[name]

    def _files(self, entry: registry.DatasetEntry) -> layout.DatasetFiles:
        return layout.dataset_files(entry, self.root(), self._metadata())

    def _metadata(self) -> str:
        return files.absolute(self.metadata or self.data)

    def _shard(self, file: str) -> str:
        return f"{self.name}/{file}"


def _state(found: layout.DatasetFiles) -> Literal["complete", "partial", "incomplete", "absent"]:
    if found.is_usable:
        return "partial" if found.missing else "complete"
    return "incomplete" if found.metadata else "absent"


def _codes(entries: pa.Table, facts: DatasetFacts, at: pa.ChunkedArray) -> pa.ChunkedArray:
    """Per entry the code of the quarantine that rules it out, null for a sound one."""
    none = pa.scalar(None, pa.string())
    if facts.kind == "classification":
        names = pa.array(facts.classnames, pa.string())
        target = entries["target"]
        listed = names.take(pc.if_else(pc.less(target, len(names)), target, pa.scalar(None, pa.int32())))
        agrees = pc.fill_null(pc.equal(listed, entries["classname"]), False)
        of_class = pc.if_else(agrees, none, "class_mismatch")
    else:
        told = [entries[name].is_valid() for name in ("classname", "default_caption", "synthetic_merged_caption")]
        of_class = pc.if_else(pc.or_(pc.or_(*told[:2]), told[2]), none, "no_text")
    return pc.if_else(at.is_null(), "no_image", pc.if_else(entries["fault"].is_valid(), "bad_entry", of_class))


def _reason(code: str, row: dict, facts: DatasetFacts) -> str:
    if code == "no_image":
        return "no image for this key"
    if code == "bad_entry":
        return row["fault"]
    if code == "no_text":
        return "neither a caption nor a class name"
    target = row["target"]
    listed = facts.classnames[target] if target < len(facts.classnames) else None
    return f"target {target} is class {listed!r} in the class list, the entry says {row['classname']!r}"


def _constant(value: str, length: int) -> pa.Array:
    return pa.array([value] * length, pa.string())
