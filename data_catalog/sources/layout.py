"""Which files make up one dataset in the benchmark's on-disk format (reference section 2.2)."""

from pathlib import Path
from typing import NamedTuple

from data_catalog import registry
from data_catalog.json_files import read_json
from data_catalog.metadata import read_entries
from data_catalog.shards import DatasetFacts
from data_catalog.sources.digests import files_below
from data_catalog.sources.tars import list_tar

Place = tuple[str, int, int]  # path relative to the data folder, offset, length


class DatasetFiles(NamedTuple):
    """The files of one dataset: `metadata` holds per split the base file and the one of the copies resized to 224."""

    entry: registry.DatasetEntry
    data: Path
    images: Path  # `<NAME>.tar` or the folder `<NAME>`
    metadata: dict[str, list[Path]]
    classnames: Path | None

    def all(self) -> dict[str, Path]:
        """Every file under a name that is independent of where the two folders lie."""
        small = {path.name: path for paths in self.metadata.values() for path in paths}
        if self.classnames:
            small[self.classnames.name] = self.classnames
        if self.images.is_file():
            return small | {self.images.name: self.images}
        return small | {f"{self.images.name}/{name}": self.images / name for name in files_below(self.images)}


def described(metadata: Path) -> tuple[registry.DatasetEntry, ...]:
    """The datasets that may lie here: those of `datasets.json` if there is one, otherwise those of the benchmark."""
    listing = metadata / "datasets.json"
    return registry.described_in(listing) if listing.is_file() else registry.benchmark()


def dataset_files(entry: registry.DatasetEntry, data: Path, metadata: Path) -> DatasetFiles:
    """Find the files of a dataset; raises ValueError naming what was looked for if there is no metadata or no images.

    The untouched tar wins over an unpacked folder, which may have been left half unpacked.
    """
    found = split_files(entry, metadata)
    if not found:
        looked_for = [f"{entry.info_prefix}_{token}.json" for token in entry.split_tokens.values()]
        raise ValueError(
            f"{entry.info_prefix} has no metadata in {metadata}: looked for {looked_for}, also as .json.gz"
        )
    tar, folder = data / f"{entry.info_prefix}.tar", data / entry.info_prefix
    if not tar.is_file() and not folder.is_dir():
        raise ValueError(
            f"{entry.info_prefix} has metadata in {metadata} but no images: looked for {tar} "
            f"and {folder}/; put one of them there, or list the datasets to use in `datasets`"
        )
    classnames = _first(metadata / f"{entry.info_prefix}_classnames.json")
    return DatasetFiles(entry, data, tar if tar.is_file() else folder, found, classnames)


def split_files(entry: registry.DatasetEntry, metadata: Path) -> dict[str, list[Path]]:
    """Per split the metadata files that are present, the base file before the resized one."""
    stems = {split: f"{entry.info_prefix}_{token}" for split, token in entry.split_tokens.items()}
    found = {
        split: [_first(metadata / f"{stem}{suffix}.json") for suffix in ("", "_224")] for split, stem in stems.items()
    }
    return {split: paths for split, pair in found.items() if (paths := [path for path in pair if path])}


def read_facts(files: DatasetFiles) -> DatasetFacts:
    """The facts of a dataset with its class list; raises ValueError if that is broken, or missing but needed."""
    entry = files.entry
    names = read_json(files.classnames) if files.classnames else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{files.classnames} is not a list of class names, in target order")
    if entry.kind == "classification" and (not names or entry.prompt_template is None):
        raise ValueError(
            f"{entry.info_prefix} is a classification dataset and needs a prompt template (has "
            f"{entry.prompt_template!r}) and {entry.info_prefix}_classnames.json (has {len(names)} names)"
        )
    return DatasetFacts(
        name=entry.info_prefix,
        kind=entry.kind,
        prompt_template=entry.prompt_template,
        classnames=names,
        class_name_transform=entry.class_name_transform,
    )


def read_split(files: DatasetFiles, split: str) -> dict[str, dict]:
    """The entries of a split by original key; captions the base file lacks come from the file of the resized copies.

    The two files are joined by key, since their orders differ (reference section 2.2).
    """
    merged: dict[str, dict] = {}
    for path in files.metadata[split]:
        for key, entry in read_entries(path).items():
            known = merged.setdefault(key.removeprefix(resized_prefix(files.entry, split)), {})
            known |= {field: value for field, value in entry.items() if known.get(field) is None}
    return merged


def resized_prefix(entry: registry.DatasetEntry, split: str) -> str:
    """The folder inside the dataset that holds its copies at 224 pixels."""
    return f"{entry.info_prefix}_{entry.split_tokens[split]}_224/"


def find_images(files: DatasetFiles) -> tuple[dict[str, Place], dict[str, str]]:
    """The place of every image by key, and by member name the reason against what a tar holds besides."""
    name = files.entry.info_prefix
    if files.images.is_dir():
        sizes = {key: (files.images / key).stat().st_size for key in files_below(files.images)}
        return {key: (f"{name}/{key}", 0, size) for key, size in sizes.items()}, {}
    plain, refused = list_tar(files.images)
    inside = {member.removeprefix(f"{name}/"): (files.images.name, *place) for member, place in plain.items()}
    return inside, refused


def _first(path: Path) -> Path | None:
    """The file or its compressed twin, whichever is there."""
    return next((found for found in (path, path.with_name(f"{path.name}.gz")) if found.is_file()), None)
