"""Which files make up one dataset in the benchmark's on-disk format (reference section 2.2), present and missing."""

import logging
from typing import NamedTuple

import pyarrow as pa

from data_catalog import files, registry
from data_catalog.files import FileStat
from data_catalog.json_files import read_json
from data_catalog.shards import DatasetFacts
from data_catalog.sources.tars import MEMBERS, Unusable, index_tar

log = logging.getLogger(__name__)


class DatasetFiles(NamedTuple):
    """The files of one dataset; metadata files by location, image files by path relative to the data folder."""

    entry: registry.DatasetEntry
    tar: str | None  # `<NAME>.tar`; None if the images lie in the folder `<NAME>`
    images: dict[str, FileStat]  # the tar alone, or every file of the folder
    metadata: dict[str, dict[str, str]]  # split -> "" and "_224" -> location
    class_lists: tuple[str, ...]  # where its class list may be read: its own, that of all, that of another dataset
    small: dict[str, FileStat]  # metadata files and class lists, by name
    missing: tuple[str, ...]  # what the release has and this folder has not

    @property
    def is_usable(self) -> bool:
        """Whether images and something that speaks of them are there, and the class list where one is needed."""
        return bool(self.metadata and self.images and (self.class_lists or not self.needs_classes))

    @property
    def needs_classes(self) -> bool:
        """Whether nothing can be scored without a class list."""
        return self.entry.kind == "classification"


def described(metadata: str) -> tuple[registry.DatasetEntry, ...]:
    """The datasets that may lie here: those of `datasets.json` if there is one, otherwise those of the benchmark."""
    listing = files.join(metadata, "datasets.json")
    return registry.described_in(listing) if files.stat_one(listing) else registry.benchmark()


def dataset_files(entry: registry.DatasetEntry, data: str, metadata: str) -> DatasetFiles:
    """Look for every file of a dataset, by stat alone.

    The untouched tar wins over an unpacked folder, which may have been left half unpacked.
    """
    name, small = entry.info_prefix, {}
    found: dict[str, dict[str, str]] = {}
    for split, token in entry.split_tokens.items():
        for suffix in ("", "_224"):
            if location := _first(metadata, f"{name}_{token}{suffix}.json", small):
                found.setdefault(split, {})[suffix] = location
    class_lists = _class_lists(entry, metadata, small) if found else ()
    tar = f"{name}.tar"
    if not found:  # nobody can say what is in the images
        images = {}
    elif packed := files.stat_one(files.join(data, tar)):
        images = {tar: packed}
    else:
        images = {f"{name}/{key}": stat for key, stat in files.stat_below(files.join(data, name)).items()}
    return DatasetFiles(entry, tar if tar in images else None, images, found, class_lists, small,
                        _missing(entry, found, class_lists, images))  # fmt: skip


def read_facts(found: DatasetFiles) -> DatasetFacts:
    """The facts of a dataset with its class list; raises ValueError if that is broken, or missing but needed."""
    entry = found.entry
    names = next(filter(None, (_class_names(entry, location) for location in found.class_lists)), ())
    if found.needs_classes and (not names or entry.prompt_template is None):
        raise ValueError(
            f"{entry.info_prefix} is a classification dataset and needs a prompt template (has "
            f"{entry.prompt_template!r}) and {entry.info_prefix}_classnames.json (has {len(names)} names)"
        )
    if names and entry.classes and len(names) != entry.classes:
        log.warning(
            "the class list of %s has %d names, the registry says %d", entry.info_prefix, len(names), entry.classes
        )
    return DatasetFacts(
        name=entry.info_prefix,
        kind=entry.kind,
        prompt_template=entry.prompt_template,
        classnames=names,
        class_name_transform=entry.class_name_transform,
        year=entry.year,
    )


def resized_prefix(entry: registry.DatasetEntry, split: str) -> str:
    """The folder inside the dataset that holds its copies at 224 pixels."""
    return f"{entry.info_prefix}_{entry.split_tokens[split]}_224/"


def index_images(found: DatasetFiles, data: str) -> tuple[pa.Table, list[Unusable]]:
    """Every image by key (as `name`) with the file, offset and length of its bytes, and what a tar holds besides."""
    prefix = f"{found.entry.info_prefix}/"
    if found.tar is None:
        keys = [name.removeprefix(prefix) for name in found.images]
        sizes = [stat.size for stat in found.images.values()]
        columns = [pa.array(keys, pa.string()), pa.array([0] * len(keys), pa.int64()), pa.array(sizes, pa.int64())]
        return pa.table(columns, MEMBERS).append_column("file", pa.array(list(found.images), pa.string())), []
    members, unusable = index_tar(files.join(data, found.tar))
    keys = pa.array([name.removeprefix(prefix) for name in members["name"].to_pylist()], pa.string())
    members = members.set_column(0, "name", keys)
    return members.append_column("file", pa.array([found.tar] * members.num_rows, pa.string())), unusable


def _missing(entry: registry.DatasetEntry, found: dict, class_lists: tuple, images: dict) -> tuple[str, ...]:
    name = entry.info_prefix
    present = {f"{name}_{entry.split_tokens[split]}{suffix}.json" for split, by in found.items() for suffix in by}
    upstream = entry.metadata_files or (() if found else tuple(f"{name}_{t}.json" for t in entry.split_tokens.values()))
    missing = [file for file in upstream if file not in present]
    if found and not class_lists and entry.kind == "classification":
        missing.append(f"{name}_classnames.json")
    if found and not images:
        missing.append(f"images: {name}.tar or {name}/")
    return tuple(missing)


def _class_lists(entry: registry.DatasetEntry, metadata: str, small: dict[str, FileStat]) -> tuple[str, ...]:
    names = [entry.info_prefix] + ([entry.class_list_of] if entry.class_list_of else [])
    wanted = [f"{names[0]}_classnames.json", "class_lists.json", *(f"{name}_classnames.json" for name in names[1:])]
    return tuple(filter(None, (_first(metadata, name, small) for name in wanted)))


def _class_names(entry: registry.DatasetEntry, location: str) -> tuple[str, ...]:
    """The names in target order, none if a list of all datasets has none for this one."""
    content = read_json(location)
    if isinstance(content, dict):  # handle -> {classnames}
        of_all = content.get(entry.handle)
        content = (of_all.get("classnames") if isinstance(of_all, dict) else None) or []
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{location} is not a list of class names, in target order")
    if entry.class_list_of and location.rpartition("/")[2].startswith(f"{entry.class_list_of}_classnames."):
        return tuple(sorted(content, key=str.casefold))
    return tuple(content)


def _first(folder: str, name: str, small: dict[str, FileStat]) -> str | None:
    """The location of a file or of its compressed twin, whichever is there; its stat goes to `small`."""
    for candidate in (name, f"{name}.gz"):
        if stat := files.stat_one(files.join(folder, candidate)):
            small[candidate] = stat
            return files.join(folder, candidate)
    return None
