"""Shards of WebDataset, read where they lie: tars whose members of one key are an image and what is said of it.

This is how img2dataset writes LAION, CC3M, CC12M and DataComp (.jpg, .txt, .json). Texts are read once per shard, when
it is indexed; images by position, in any order.
"""

import json
import os
import zlib
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from data_catalog import metadata
from data_catalog.files import FileStat
from data_catalog.refs import Spec
from data_catalog.sources.one_dataset import Found, OneDataset, as_found
from data_catalog.sources.shard_names import find_shards, split_in
from data_catalog.sources.shard_tables import LONGEST_TEXT, index_shard, tables_of, with_split
from data_catalog.tabular import field

_REVISION = 1  # of the tables kept per shard


class Members(Spec):
    """Which member of a group says what: by its extension, or json.<key> for a value in its .json."""

    image: tuple[str, ...] = Field(("jpg", "jpeg", "png", "webp"), description="the first that is there")
    captions: tuple[str, ...] = Field(("txt", "json.caption"), description="text, or lists of text in a .json")
    concept: str | None = Field("cls", description="class name, or its number in `classnames`")
    attributes: tuple[str, ...] = Field((), description="what else to keep of a sample, e.g. json.url")

    def texts(self) -> set[str]:
        """The extensions of the members that are read when a shard is indexed."""
        names = {*self.captions, *self.attributes, *([self.concept] if self.concept else [])}
        return {"json" if name.startswith("json.") else name for name in names}


class WebDataset(OneDataset):
    """Every group with an image is a sample, called <shard>/<key>, since keys repeat in many pools."""

    kind: Literal["webdataset"] = "webdataset"
    shards: tuple[str, ...] = Field(("*.tar",), description="below `data`; {00000..41407}.tar counts, * is anything")
    members: Members = Members()

    def find_files(self) -> dict[str, FileStat]:
        return find_shards(self.root(), self.shards)

    def nothing(self) -> str:
        return f"no shard {', '.join(self.shards)} lies in {self.root()}"

    def find(self, inside: dict[str, FileStat]) -> Found:
        facts = f"webdataset {_REVISION} {self.members.model_dump_json()}"
        tables = tables_of(self.root(), inside, facts, self._read)
        splits = [split_in(name, self.split_words()) for name in inside]
        return Found(pa.concat_tables([with_split(*pair) for pair in zip(tables, splits, strict=True)]))

    def _read(self, location: str, name: str) -> pa.Table:
        return read_shard(location, name, self.members)


def read_shard(location: str, name: str, members: Members) -> pa.Table:
    """The samples (FOUND) of one local shard that is called `name`, as its members tell them."""
    index = index_shard(location)
    refused = [_row(name, each.name, code=each.code, reason=each.reason) for each in index.unusable]
    groups: dict[str, dict[str, tuple[int, int]]] = {}
    for member, offset, length in zip(*(column.to_pylist() for column in index.members), strict=True):
        folder, slash, base = member.rpartition("/")
        stem, _, extension = base.partition(".")
        groups.setdefault(folder + slash + stem, {})[extension.lower()] = (offset, length)
    with open(location, "rb", buffering=0) as shard:
        rows = [_sample(members, name, key, group, shard.fileno()) for key, group in groups.items()]
    return as_found(rows + refused)


def _sample(members: Members, shard: str, key: str, group: dict[str, tuple[int, int]], descriptor: int) -> dict:
    place = next((group[extension] for extension in members.image if extension in group), None)
    if place is None:
        reason = f"no image in the group: found {sorted(group)}, expected one of {list(members.image)}"
        return _row(shard, key, code="no_image", reason=reason)
    row = _row(shard, key, offset=place[0], length=place[1])
    try:
        said = {name: _said(name, group, descriptor) for name in members.texts()}
        return row | _meaning(members, said)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        return row | {"code": "bad_entry", "reason": str(error)[:300]}


def _meaning(members: Members, said: dict[str, Any]) -> dict:
    captions = [text for name in members.captions for text in _texts(name, _value(name, said))]
    told: dict[str, Any] = {"default_caption": list(dict.fromkeys(captions)) or None}
    if members.attributes:
        kept = {name.removeprefix("json."): _value(name, said) for name in members.attributes}
        told["attributes"] = json.dumps(kept, sort_keys=True, ensure_ascii=False)
    concept = _value(members.concept, said) if members.concept else None
    told |= _class_of(concept)
    for text in (*captions, told.get("attributes", ""), told.get("concept", "")):
        text.encode()  # half a surrogate pair is valid JSON, but raises here
    return told


def _class_of(concept: object) -> dict:
    """The class that a text names, or its number."""
    if concept is None or not str(concept).strip():
        return {}
    text = str(concept).strip()
    return {"target": int(text)} if text.isascii() and text.isdigit() and len(text) < 10 else {"concept": text}


def _row(shard: str, key: str, **known: Any) -> dict:
    return {"key": f"{shard.removesuffix('.tar')}/{key}", "file": shard, **known}


def _said(extension: str, group: dict[str, tuple[int, int]], descriptor: int) -> Any:
    """What a member says, parsed if it is JSON; None if it is not there."""
    name = next((each for each in (extension, f"{extension}.gz") if each in group), None)
    if name is None:
        return None
    offset, length = group[name]
    if length > LONGEST_TEXT:
        raise ValueError(f".{name} has {length} bytes, expected text of at most {LONGEST_TEXT}")
    try:
        data = os.pread(descriptor, length, offset)
        text = (_unpacked(data) if name.endswith(".gz") else data).decode("utf-8-sig")
        return json.loads(text) if extension == "json" else text.strip()
    except (ValueError, EOFError, OSError, zlib.error, RecursionError) as error:
        raise ValueError(f".{name} cannot be read: {error}") from error


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    text = unpacking.decompress(data, LONGEST_TEXT)
    if not unpacking.eof:
        raise ValueError(
            "it is cut short" if len(text) < LONGEST_TEXT else f"it unpacks to {LONGEST_TEXT} bytes or more"
        )
    return text


def _value(name: str, said: dict[str, Any]) -> Any:
    if not name.startswith("json."):
        return said[name]
    content = said["json"]
    if content is not None and not isinstance(content, dict):
        raise ValueError(f".json is {str(content)[:40]!r}, expected an object")
    return field(content, name.removeprefix("json.")) if content else None


def _texts(name: str, value: object) -> list[str]:
    try:
        return metadata.texts_of(value) or []
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error
