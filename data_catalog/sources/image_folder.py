"""Images in folders, one folder per class: `<class>/...` or `<split>/<class>/...`, as torchvision's ImageFolder."""

from typing import Literal

from pydantic import Field

from data_catalog import files
from data_catalog.files import FileStat
from data_catalog.sources.one_dataset import (
    TEST_WORDS,
    TRAIN_WORDS,
    VALIDATION_WORDS,
    Found,
    OneDataset,
    as_found,
    is_image,
)


class ImageFolder(OneDataset):
    """Every file called like an image below a folder that gives its class; other files are not looked at."""

    FILE_IS_SAMPLE = True

    kind: Literal["image_folder"] = "image_folder"
    prompt_template: str = Field("a photo of a {}.", pattern=r"\{\}", description="sentence around a class name")
    layout: Literal["auto", "class", "split/class"] = Field(
        "auto", description="what the folders stand for; auto: splits if all of the outermost are called like splits"
    )

    def find_files(self) -> dict[str, FileStat]:
        return {name: stat for name, stat in files.stat_below(self.root()).items() if is_image(name) or stat.fault}

    def nothing(self) -> str:
        return f"no image lies below {self.root()}, looked for <class>/<name>.jpg and the like"

    def find(self, inside: dict[str, FileStat]) -> Found:
        has_splits = self.layout == "split/class" or (self.layout == "auto" and self._are_splits(inside))
        return Found(as_found([_row(name, stat, has_splits) for name, stat in inside.items()]))

    def _are_splits(self, inside: dict[str, FileStat]) -> bool:
        words = {*TRAIN_WORDS, *TEST_WORDS, *VALIDATION_WORDS} | {word.lower() for word in self.splits or ()}
        outermost = {name.partition("/")[0].lower() for name in inside if "/" in name}
        return bool(outermost) and outermost <= words


def _row(name: str, stat: FileStat, has_splits: bool) -> dict:
    *folders, _ = name.split("/")
    row = {"key": name, "file": name, "split": folders.pop(0) if has_splits and folders else None}
    if stat.fault:
        return row | {"code": "unusable_file", "reason": f"the file {stat.fault}"}
    if not folders:
        return row | {"code": "bad_entry", "reason": "lies in no folder that gives its class"}
    return row | {"concept": folders[0], "offset": 0, "length": stat.size}
