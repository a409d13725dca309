"""Plain tars of images: a folder per class inside, and a text of the same name beside an image is its caption."""

import os
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from data_catalog.files import FileStat
from data_catalog.sources.one_dataset import Found, OneDataset, as_found, is_image
from data_catalog.sources.shard_names import find_shards, split_in
from data_catalog.sources.shard_tables import LONGEST_TEXT, index_shard, tables_of, with_split

_REVISION = 1  # of the tables kept per tar


class TarArchive(OneDataset):
    """Every member called like an image is a sample, called <tar>/<member>; nothing is unpacked."""

    kind: Literal["tar_archive"] = "tar_archive"
    prompt_template: str | None = Field("a photo of a {}.", pattern=r"\{\}", description="sentence around a class name")
    tars: tuple[str, ...] = Field(("*.tar",), description="below `data`; {00..11}.tar counts, * is anything")
    class_folder: Literal["innermost", "outermost", "none"] = Field(
        "innermost", description="which folder inside the tar gives the class; folders called like splits give none"
    )

    def find_files(self) -> dict[str, FileStat]:
        return find_shards(self.root(), self.tars)

    def nothing(self) -> str:
        return f"no tar {', '.join(self.tars)} lies in {self.root()}"

    def find(self, inside: dict[str, FileStat]) -> Found:
        facts = f"tar_archive {_REVISION} {self.class_folder} {self.split_words()}"
        tables = tables_of(self.root(), inside, facts, self._read)
        splits = [split_in(name, self.split_words()) for name in inside]
        return Found(pa.concat_tables([with_split(*pair) for pair in zip(tables, splits, strict=True)]))

    def _read(self, location: str, name: str) -> pa.Table:
        index = index_shard(location)
        columns = (column.to_pylist() for column in index.members)
        places = {member: place for member, *place in zip(*columns, strict=True)}
        rows = [_row(name, each.name, code=each.code, reason=each.reason) for each in index.unusable]
        with open(location, "rb", buffering=0) as tar:
            for member, (offset, length) in places.items():
                if is_image(member):
                    row = _row(name, member, offset=offset, length=length, **self._folders(member))
                    rows.append(row | _caption(places.get(f"{os.path.splitext(member)[0]}.txt"), tar.fileno()))
        return as_found(rows)

    def _folders(self, member: str) -> dict[str, str | None]:
        """Split and class of a member, as its folders tell them."""
        words = {word.lower(): word for word in self.split_words()}
        folders = member.split("/")[:-1]
        split = next((words[folder.lower()] for folder in folders if folder.lower() in words), None)
        classes = [folder for folder in folders if folder.lower() not in words]
        if not classes or self.class_folder == "none":
            return {"split": split}
        return {"split": split, "concept": classes[-1 if self.class_folder == "innermost" else 0]}


def _row(tar: str, member: str, **known: Any) -> dict:
    return {"key": f"{tar.removesuffix('.tar')}/{member}", "file": tar, **known}


def _caption(place: list[int] | None, descriptor: int) -> dict:
    if place is None:
        return {}
    offset, length = place
    if length > LONGEST_TEXT:
        return {"code": "bad_entry", "reason": f"its text has {length} bytes, expected at most {LONGEST_TEXT}"}
    try:
        text = os.pread(descriptor, length, offset).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        return {"code": "bad_entry", "reason": f"its text cannot be read: {error}"}
    return {"default_caption": [text] if text else None}
