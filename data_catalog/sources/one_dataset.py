"""What sources of a user's own data share: one dataset, described by its configuration, with splits and classes."""

import json
from hashlib import sha256
from typing import Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import files, metadata, settling
from data_catalog.files import FileStat
from data_catalog.inspection_memory import Memory
from data_catalog.json_files import read_json
from data_catalog.quarantine import refusal
from data_catalog.settling import Settle, Settled
from data_catalog.shards import DatasetFacts
from data_catalog.sources.base import CANDIDATES, Candidates, Listing, Location, Source

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".jp2", ".avif")
TRAIN_WORDS, TEST_WORDS = ("train", "training"), ("test", "testing")
VALIDATION_WORDS = ("val", "valid", "validation", "dev", "eval")
FOUND = pa.schema(
    [
        *(CANDIDATES.field(name) for name in CANDIDATES.names if name not in ("split", "concept")),
        ("split", pa.string()),  # the word the data has for it; null where it has none
        ("concept", pa.string()),  # the class as the data writes it
        ("code", pa.string()),  # of the quarantine, for what cannot be a sample
        ("reason", pa.string()),
    ]
)
_CLASS_LIST = "metadata:classnames"


class Found(NamedTuple):
    """What a source of one kind holds, before splits and classes are settled."""

    rows: pa.Table  # schema FOUND
    classnames: tuple[str, ...] | None = None  # if the data itself has a list of them, in target order


class OneDataset(Source):
    """A folder or URL with one dataset; a kind says what its samples are (`find_files`, `find`)."""

    data: Location = Field(
        description="folder, or URL such as s3://bucket/folder, that everything below is relative to"
    )
    dataset: str = Field(pattern=r"^[^/\s]+$", description="name of the dataset, begins the ids of its samples")
    prompt_template: str | None = Field(
        None, pattern=r"\{\}", description="sentence around a class name, {} stands for it; none: no classes to score"
    )
    class_name_transform: Literal["none", "underscores_to_spaces"] = Field(
        "none", description="how class names are changed inside a prompt"
    )
    classnames: str | None = Field(
        None,
        description="JSON file below `data`: list of class names, or object from what the data writes to the name",
    )
    concept: str | None = Field(None, description="class name of all samples that have none, so that they can stream")
    splits: dict[str, Literal["train", "test"] | None] | None = Field(
        None, description="word of the data -> train, test or null (left out); default: train*, test*, and validation "
        "words as test if there is no test"
    )  # fmt: skip
    test_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the samples without a split that become test, decided by their key"
    )
    seed: int = Field(0, description="another seed draws other test samples")
    settle: Settle | None = Field(
        None, description="data arrives here: when a file counts as there, and having nothing yet is no error"
    )

    def root(self) -> str:
        return files.absolute(self.data)

    def listings(self) -> list[Listing]:
        return self.arrived()[0]

    def arrived(self) -> tuple[list[Listing], dict[str, str]]:
        found, waiting = self.settled()
        return self._listed(found) if self.is_dataset(found) else self._without_any(waiting), waiting

    def _listed(self, found: dict[str, FileStat]) -> list[Listing]:
        if self.classnames:
            location = files.join(self.root(), self.classnames)
            found |= {_CLASS_LIST: files.stat_one(location) or _missing(location)}
        decides = self.model_dump(mode="json", exclude={"name", "data", "settle"})
        return [Listing(self.dataset, found, json.dumps(decides, sort_keys=True))]

    def may_be_empty(self) -> bool:
        return self.settle is not None

    def settled(self) -> Settled:
        """The files that make up the dataset, divided by the rule for what counts as there."""
        rule = self.settle or Settle()
        markers = settling.find_markers(rule, self.root())
        return settling.settled(self.find_files(), rule, markers, self.name)

    def candidates(self, listing: Listing) -> Candidates:
        inside = {name: stat for name, stat in listing.files.items() if name != _CLASS_LIST}
        return _settled(self, self.find(inside))

    def find_files(self) -> dict[str, FileStat]:
        """The files that make up the dataset, by name relative to the root."""
        raise NotImplementedError

    def find(self, inside: dict[str, FileStat]) -> Found:
        """What these files hold."""
        raise NotImplementedError

    def is_dataset(self, found: dict[str, FileStat]) -> bool:
        """Whether these files are enough to speak of a dataset."""
        return bool(found)

    def split_words(self) -> list[str]:
        """The words that may stand for a split in a name."""
        return [*self.splits] if self.splits is not None else [*TRAIN_WORDS, *TEST_WORDS, *VALIDATION_WORDS]

    def nothing(self) -> str:
        """What was looked for, for the case that there is nothing."""
        return f"nothing of {self.dataset} lies in {self.root()}"

    def _without_any(self, waiting: dict[str, str]) -> list[Listing]:
        """No listing while nothing has arrived yet; raises ValueError where something must be, or was."""
        if not self.may_be_empty():
            raise ValueError(f"source {self.name!r}: {self.nothing()}; correct `data`")
        if not (held := Memory.of(self.name, self.dataset).held()):
            return []
        now = f"all of it waits: {settling.reasons(waiting.values())}" if waiting else self.nothing()
        raise ValueError(
            f"source {self.name!r} held {held} samples of {self.dataset}, and now {now}. A step without them would "
            "replay none of them: mount the place or bring them back, wait, or take the source out of the configuration"
        )


def is_image(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def found_table(count: int, **columns: list | pa.Array | pa.ChunkedArray | str | int | None) -> pa.Table:
    """A table of FOUND from the columns that are known; a single value stands in every row, the rest is null."""
    arrays = []
    for field in FOUND:
        value = columns.pop(field.name, None)
        if isinstance(value, str | int) or value is None:
            arrays.append(pa.repeat(pa.scalar(value, field.type), count))
        elif isinstance(value, list):
            arrays.append(pa.array(value, field.type))
        else:
            arrays.append(pc.cast(value, field.type))
    assert not columns, f"no columns of FOUND: {sorted(columns)}"
    return pa.table(arrays, FOUND)


def as_found(rows: list[dict]) -> pa.Table:
    """A table of FOUND from rows that say what is known."""
    return pa.Table.from_pylist(rows, FOUND)


def _settled(source: OneDataset, found: Found) -> Candidates:
    """Candidates with splits and classes of ours; what fits neither is refused."""
    rows, refused = _without_faults(source, _with_splits(source, found.rows.combine_chunks()))
    names, rows = _with_classes(source, rows, found.classnames)
    is_classification = bool(names) and source.prompt_template is not None
    facts = DatasetFacts(
        name=source.dataset,
        kind="classification" if is_classification else "retrieval",
        prompt_template=source.prompt_template if is_classification else None,
        classnames=names if is_classification else (),
        class_name_transform=source.class_name_transform,
    )
    rows, against = _without_faults(source, _with_texts_checked(rows, is_classification))
    shard = pc.binary_join_element_wise(source.name, pc.coalesce(rows["shard"], rows["file"]), "/")
    columns = {name: rows[name] for name in rows.column_names} | {"shard": shard}
    return Candidates(facts, pa.table([columns[name] for name in CANDIDATES.names], CANDIDATES), refused + against)


def _without_faults(source: OneDataset, rows: pa.Table) -> tuple[pa.Table, list[dict]]:
    if rows["code"].null_count == rows.num_rows:
        return rows, []  # without a copy
    is_faulty = rows["code"].is_valid()
    refused = [
        refusal(
            "/".join(filter(None, (source.dataset, row["split"], row["key"]))),
            f"{source.name}/{row['shard'] or row['file'] or ''}",
            row["code"],
            row["reason"],
        )
        for row in rows.filter(is_faulty).select(["key", "split", "shard", "file", "code", "reason"]).to_pylist()
    ]
    return rows.filter(pc.invert(is_faulty)), refused


def _with_splits(source: OneDataset, rows: pa.Table) -> pa.Table:
    words = [word for word in pc.unique(rows["split"]).to_pylist() if word is not None]
    ours = _splits_of(source, words)
    if left_out := [word for word in words if word in ours and ours[word] is None]:
        rows = rows.filter(pc.invert(pc.is_in(rows["split"], value_set=pa.array(left_out, pa.string()))))
    unknown = pa.array([word for word in words if word not in ours], pa.string())
    is_unknown = pc.is_in(rows["split"], value_set=unknown)
    reason = pc.binary_join_element_wise("split ", rows["split"], f" is none of {sorted(ours)}: map it in `splits`", "")
    rows = _with_fault(rows, pc.and_(is_unknown, rows["code"].is_null()), "bad_entry", reason)
    known = pa.array(list(ours), pa.string())
    split = pa.array(list(ours.values()), pa.string()).take(pc.index_in(rows["split"], value_set=known))
    split = pc.if_else(is_unknown, rows["split"], split)
    unsaid = pc.and_(rows["split"].is_null(), rows["code"].is_null())
    if pc.any(unsaid).as_py():
        drawn = [_drawn_split(source, key) for key in rows["key"].filter(unsaid).to_pylist()]
        split = pc.replace_with_mask(split.combine_chunks(), unsaid.combine_chunks(), pa.array(drawn, pa.string()))
    return _with_column(rows, "split", split)


def _splits_of(source: OneDataset, words: list[str]) -> dict[str, str | None]:
    if source.splits is not None:
        return source.splits
    has_test = any(word.lower() in TEST_WORDS for word in words)
    known = dict.fromkeys(TRAIN_WORDS, "train") | dict.fromkeys(TEST_WORDS, "test")
    known |= dict.fromkeys(VALIDATION_WORDS, None if has_test else "test")
    return known | {word: known[word.lower()] for word in words if word.lower() in known}


def _drawn_split(source: OneDataset, key: str) -> str:
    """Of this key alone, so what arrives later moves no sample from one split to the other."""
    if not source.test_fraction:
        return "train"
    draw = int.from_bytes(sha256(f"{source.seed}/{key}".encode()).digest()[:8]) / 2**64
    return "test" if draw < source.test_fraction else "train"


def _with_classes(source: OneDataset, rows: pa.Table, own: tuple[str, ...] | None) -> tuple[tuple[str, ...], pa.Table]:
    """The class names in target order, and the rows with the names and targets of their classes."""
    if source.concept is not None:
        without = pc.and_(rows["concept"].is_null(), rows["target"].is_null())
        rows = _with_column(rows, "concept", pc.if_else(without, source.concept, rows["concept"]))
    written = [each for each in pc.unique(rows["concept"]).to_pylist() if each is not None]
    if source.classnames is None and own is None and rows["target"].null_count < rows.num_rows:
        own = _numbered(source, rows)
    names, name_of = _class_list(source, own, written)
    by_name = {name: target for target, name in enumerate(names)}
    keys = pa.array(list(name_of), pa.string())
    targets = pa.array([by_name[name] for name in name_of.values()], pa.int32())
    by_concept = targets.take(pc.index_in(rows["concept"], value_set=keys))
    told = pc.coalesce(rows["target"], by_concept)
    agrees = pc.fill_null(pc.equal(told, by_concept), True)
    is_known = pc.and_(agrees, pc.and_(pc.greater_equal(told, 0), pc.less(told, len(names))))
    target = pc.if_else(pc.fill_null(is_known, False), told, pa.scalar(None, pa.int32()))
    is_wrong = pc.and_(target.is_null(), pc.or_(rows["concept"].is_valid(), rows["target"].is_valid()))
    said = pc.coalesce(rows["concept"], pc.cast(rows["target"], pa.string()))
    reason = pc.binary_join_element_wise("class ", said, f" is not among the {len(names)} in the class list", "")
    rows = _with_fault(rows, is_wrong, "class_mismatch", reason)
    rows = _with_column(rows, "target", target)
    return names, _with_column(rows, "concept", pa.array(names, pa.string()).take(target))


def _numbered(source: OneDataset, rows: pa.Table) -> tuple[str, ...]:
    """The class names in the order of the numbers that the data itself gives them."""
    pairs = pa.table([rows["target"], rows["concept"]], ["target", "concept"]).group_by(["target", "concept"])
    found = sorted(pair for pair in zip(*pairs.aggregate([]).to_pydict().values(), strict=True) if None not in pair)
    names = tuple(name for _, name in found)
    if not found or [number for number, _ in found] != list(range(len(found))) or len(set(names)) < len(names):
        raise ValueError(
            f"{source.dataset} in {source.root()} has classes by number; give their names in `classnames`, or "
            f"map names alone (in the data each name would need one number, from 0 on; it has {found[:3]})"
        )
    return names


def _class_list(
    source: OneDataset, own: tuple[str, ...] | None, written: list[str]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The class names in target order, and what the data writes -> class name."""
    if source.classnames is None:
        names = own or tuple(sorted(written))
        return names, {name: name for name in names}
    location = files.join(source.root(), source.classnames)
    content = read_json(location)
    listed = content if isinstance(content, list) else list(content.values()) if isinstance(content, dict) else [None]
    if not listed or not all(isinstance(name, str) and name.strip() for name in listed):
        raise ValueError(
            f"{location} is neither a list of class names nor an object from what the data writes to class names"
        )
    names = tuple(dict.fromkeys(listed))
    if isinstance(content, dict):
        return names, content
    if len(names) < len(listed):
        raise ValueError(f"{location} has a class name twice: {next(n for n in names if listed.count(n) > 1)!r}")
    return names, {name: name for name in names}


def _with_texts_checked(rows: pa.Table, is_classification: bool) -> pa.Table:
    """Every sample needs its class where there are prompts, and otherwise something that can be said of it."""
    if is_classification:
        is_silent, code, reason = rows["target"].is_null(), "class_mismatch", "no class, and the dataset has classes"
    else:
        is_silent, code, reason = rows["concept"].is_null(), "no_text", "neither a caption nor a class name"
        for name in ("default_caption", "synthetic_merged_caption"):
            is_silent = pc.and_(is_silent, rows[name].is_null())
    return _with_fault(rows, pc.and_(is_silent, rows["code"].is_null()), code, reason)


def _with_fault(rows: pa.Table, where: pa.ChunkedArray, code: str, reason: str | pa.ChunkedArray) -> pa.Table:
    rows = _with_column(rows, "code", pc.if_else(where, code, rows["code"]))
    return _with_column(rows, "reason", pc.if_else(where, reason, rows["reason"]))


def _with_column(rows: pa.Table, name: str, column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), FOUND.field(name), column)


def _missing(location: str) -> FileStat:
    raise ValueError(f"there is no {location}: correct `classnames`, a JSON file below `data`")


def texts_column(values: list[object]) -> tuple[list[list[str] | None], list[str | None]]:
    """A caption field of many samples as lists, and the fault of each value that is no text."""
    texts, faults = [], []
    for value in values:
        try:
            texts.append(metadata.texts_of(value))
            faults.append(None)
        except ValueError as error:
            texts.append(None)
            faults.append(str(error))
    return texts, faults
