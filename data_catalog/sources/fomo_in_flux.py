"""Datasets in the on-disk format of FoMo-in-Flux (arXiv 2408.14471; reference section 2.2), read where they lie."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
from pydantic import Field

from data_catalog import metadata, registry
from data_catalog.reading import read_range
from data_catalog.shards import QUARANTINE, SAMPLES, DatasetFacts, with_facts
from data_catalog.sources import layout
from data_catalog.sources.base import RawDataset, Source
from data_catalog.sources.digests import digest_of_files
from data_catalog.sources.images import examine


class FomoInFlux(Source):
    """Folders or untouched tars of images under `data`, JSON files under `metadata`; nothing is unpacked or copied."""

    kind: Literal["fomo_in_flux"] = "fomo_in_flux"
    name: str = Field("fomo_in_flux", pattern=r"^[\w.-]+$")
    data: str
    metadata: str | None = None  # the folder of the JSON files, by default `data`
    datasets: tuple[str, ...] | None = None  # by any accepted name; by default all that have metadata

    def root(self) -> Path:
        return Path(self.data).expanduser().resolve()

    def scan(self) -> list[RawDataset]:
        return [self._raw(entry) for entry in sorted(self._present(), key=lambda entry: entry.info_prefix)]

    def read(self, raw: RawDataset) -> tuple[pa.Table, pa.Table]:
        entry = next((entry for entry in self._present() if entry.info_prefix == raw.dataset), None)
        if entry is None:
            raise ValueError(f"{raw.dataset} is not in source {self.name!r}, found {self._names()}; scan again")
        tables = read_dataset(self._files(entry), self.name)
        if self._raw(entry) != raw:
            raise ValueError(f"{raw.dataset} in {self.root()} changed since it was scanned; scan and ingest it again")
        return tables

    def _present(self) -> list[registry.DatasetEntry]:
        known = layout.described(self._metadata())
        if self.datasets is not None:
            return list({entry.info_prefix: entry for entry in map(self._resolve, self.datasets)}.values())
        found = [entry for entry in known if layout.split_files(entry, self._metadata())]
        if not found:
            raise ValueError(
                f"no dataset in {self._metadata()}: looked for datasets.json and <NAME>_<split>.json[.gz] "
                f"of {len(known)} known datasets; set `metadata` to the folder of the JSON files"
            )
        return found

    def _resolve(self, name: str) -> registry.DatasetEntry:
        known = registry.by_name(layout.described(self._metadata()))
        if name not in known:
            raise ValueError(f"source {self.name!r} knows no dataset {name!r}; {registry.close_to(name, known)}")
        return known[name]

    def _names(self) -> list[str]:
        return sorted(entry.info_prefix for entry in self._present())

    def _metadata(self) -> Path:
        return Path(self.metadata).expanduser().resolve() if self.metadata else self.root()

    def _files(self, entry: registry.DatasetEntry) -> layout.DatasetFiles:
        return layout.dataset_files(entry, self.root(), self._metadata())

    def _raw(self, entry: registry.DatasetEntry) -> RawDataset:
        digest = digest_of_files(self._files(entry).all(), entry.model_dump_json())
        return RawDataset(source=self.name, dataset=entry.info_prefix, digest=digest)


class Candidate(NamedTuple):
    """A metadata entry and where its image lies (None if it is missing)."""

    split: str
    key: str
    entry: dict
    place: layout.Place | None


def read_dataset(files: layout.DatasetFiles, source: str) -> tuple[pa.Table, pa.Table]:
    """The sample table, in the order of the metadata files, and the table of everything that had to be refused."""
    facts = layout.read_facts(files)
    images, refused = layout.find_images(files)
    candidates = list(_candidates(files, images))
    with ThreadPoolExecutor() as pool:
        outcomes = list(pool.map(lambda candidate: _sample(candidate, facts, files.data, source), candidates))
    rows = [outcome for outcome in outcomes if "reason" not in outcome]
    against = [outcome for outcome in outcomes if "reason" in outcome]
    against += _unclaimed(files, images, candidates, source)
    against += [_refusal(f"{facts.name}/{name}", source, files.images.name, why) for name, why in refused.items()]
    return with_facts(pa.Table.from_pylist(rows, SAMPLES), facts), pa.Table.from_pylist(against, QUARANTINE)


def _candidates(files: layout.DatasetFiles, images: dict[str, layout.Place]) -> Iterator[Candidate]:
    for split in files.metadata:
        prefix = layout.resized_prefix(files.entry, split)
        for key, entry in layout.read_split(files, split).items():
            yield Candidate(split, key, entry, images.get(key, images.get(prefix + key)))


def _sample(candidate: Candidate, facts: DatasetFacts, data: Path, source: str) -> dict:
    """A row of SAMPLES, or of QUARANTINE if the image or its entry cannot be used."""
    split, key, entry, place = candidate
    identity = f"{facts.name}/{split}/{key}"
    reason = "no image for this key" if place is None else _fault(entry, facts)
    if reason:
        return _refusal(identity, source, place[0] if place else f"{facts.name}/{key}", reason)
    image = read_range(data / place[0], *place[1:])
    header = examine(image) if len(image) == place[2] else f"only {len(image)} of {place[2]} bytes are there"
    if isinstance(header, str):
        return _refusal(identity, source, place[0], header)
    texts = {field: metadata.texts_of(entry.get(field)) for field in metadata.CAPTIONS}
    return {
        "id": identity, "dataset": facts.name, "split": split, "key": key,
        "concept": entry["classname"], "target": entry["target"],
        "shard": f"{source}/{place[0]}", "offset": place[1], "length": place[2],
        "hash": hashlib.sha256(image).digest(), **header._asdict(), **texts,
    }  # fmt: skip


def _fault(entry: dict, facts: DatasetFacts) -> str | None:
    """Why an entry cannot be used: malformed, against the class list, or with nothing to say about its image."""
    if faults := [fault for _, fault in metadata.entry_problems("", entry, None)]:
        return "; ".join(faults)
    name, target = entry["classname"], entry["target"]
    if facts.kind == "classification":
        listed = facts.classnames[target] if target < len(facts.classnames) else None
        return (
            None
            if name == listed
            else f"target {target} is class {listed!r} in the class list, the entry says {name!r}"
        )
    has_text = name is not None or entry["default_caption"] or entry["synthetic_merged_caption"]
    return None if has_text else "neither a caption nor a class name"


def _unclaimed(files: layout.DatasetFiles, images: dict, candidates: list[Candidate], source: str) -> list[dict]:
    """A refusal for each image without a metadata entry; the resized copies of images with one are not meant."""
    prefixes = {split: layout.resized_prefix(files.entry, split) for split in files.metadata}
    claimed = {key for c in candidates for key in (c.key, prefixes[c.split] + c.key)}
    return [_refusal(f"{files.entry.info_prefix}/{key}", source, images[key][0], "no metadata entry for this image")
            for key in sorted(images.keys() - claimed)]  # fmt: skip


def _refusal(identity: str, source: str, relative: str, reason: str) -> dict:
    return {"id": identity, "shard": f"{source}/{relative}", "reason": reason}
