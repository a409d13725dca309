"""Datasets in the WebDataset layout of CLIP_benchmark (github.com/LAION-AI/CLIP_benchmark), read where they lie.

A folder per split with nshards.txt and 0.tar, 1.tar, ...; beside them classnames.txt and
zeroshot_classification_templates.txt with a line each, and dataset_type.txt, which says `retrieval` or nothing. The
image of a sample is its .webp, .png or .jpg; its .cls is the number of its class; its .txt has a caption per line.
"""

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import files
from data_catalog.files import FileStat
from data_catalog.settling import Settled
from data_catalog.sources.base import Candidates, Listing
from data_catalog.sources.one_dataset import FOUND, Found, OneDataset
from data_catalog.sources.shard_names import find_shards
from data_catalog.sources.shard_tables import tables_of, with_split
from data_catalog.sources.webdataset import Members, read_shard

_REVISION = 1  # of the tables kept per shard
NAMES, TEMPLATES, KIND, COUNT = (
    "classnames.txt", "zeroshot_classification_templates.txt", "dataset_type.txt", "nshards.txt"
)  # fmt: skip
_IMAGES = ("webp", "png", "jpg", "jpeg")
MEMBERS = {
    "classification": Members(image=_IMAGES, captions=(), concept="cls"),
    "retrieval": Members(image=_IMAGES, captions=("txt",), concept=None),
}


class ClipBenchmark(OneDataset):
    """Class names, templates and kind come from the files; a `prompt_template` of the configuration replaces theirs."""

    kind: Literal["clip_benchmark"] = "clip_benchmark"

    def find_files(self) -> dict[str, FileStat]:
        found: dict[str, FileStat] = {}
        for word in self.split_words():
            if stat := files.stat_one(self._at(f"{word}/{COUNT}")):
                found |= {f"{word}/{COUNT}": stat}
                found |= find_shards(self.root(), [f"{word}/{{0..{self._shards(word) - 1}}}.tar"])
        if found:
            stats = {name: files.stat_one(self._at(name)) for name in (NAMES, TEMPLATES, KIND)}
            found |= {name: stat for name, stat in stats.items() if stat}
        return found

    def settled(self) -> Settled:
        """All files or none: each means something only with the others."""
        found = super().settled()
        return Settled({}, found.waiting) if found.waiting else found

    def nothing(self) -> str:
        return f"no folder of a split ({', '.join(self.split_words())}) with {COUNT} and tars lies in {self.root()}"

    def candidates(self, listing: Listing) -> Candidates:
        listed = self._templates() if TEMPLATES in listing.files and self._kind(listing.files) != "retrieval" else ()
        template = self.prompt_template or (listed[0] if listed else None)
        if template is None and self._kind(listing.files) == "classification":
            raise ValueError(
                f"{self.root()} has classes but no {TEMPLATES} with a line: give the sentence around a class name, "
                "{} standing for it, as `prompt_template`"
            )
        found = super(ClipBenchmark, self.model_copy(update={"prompt_template": template})).candidates(listing)
        if len(listed) < 2:
            return found
        return found._replace(facts=found.facts.model_copy(update={"templates": listed}))

    def find(self, inside: dict[str, FileStat]) -> Found:
        kind = self._kind(inside)
        shards = {name: stat for name, stat in inside.items() if name.endswith(".tar")}
        facts = f"clip_benchmark {_REVISION} {kind}"
        tables = tables_of(self.root(), shards, facts, lambda *place: _with_lines(read_shard(*place, MEMBERS[kind])))
        rows = [with_split(table, name.partition("/")[0]) for table, name in zip(tables, shards, strict=True)]
        names = self._classnames() if kind == "classification" and self.classnames is None else None
        return Found(pa.concat_tables(rows), names)

    def _kind(self, present: dict[str, FileStat]) -> Literal["classification", "retrieval"]:
        said = ("\n".join(self._lines(KIND)).lower() if KIND in present else "") or "classification"
        if said not in MEMBERS:
            raise ValueError(f"{self._at(KIND)} says {said!r:.60}, expected one of {', '.join(MEMBERS)}")
        return said

    def _classnames(self) -> tuple[str, ...]:
        names = self._lines(NAMES)
        if not names or not all(names):
            raise ValueError(
                f"{self._at(NAMES)} has an empty line or none at all, expected the name of a class in each"
            )
        return names

    def _templates(self) -> tuple[str, ...]:
        lines = self._lines(TEMPLATES)
        if odd := [line for line in lines if "{c}" not in line or "{}" in line]:
            raise ValueError(
                f"{self._at(TEMPLATES)} has the line {odd[0]!r:.60}, expected {{c}} for the class in each, and no {{}}"
            )
        return tuple(line.replace("{c}", "{}") for line in lines)

    def _shards(self, split: str) -> int:
        said = "".join(self._lines(f"{split}/{COUNT}"))
        if not said.isdecimal() or len(said) > 6 or int(said) == 0:  # each tar is looked for
            raise ValueError(f"{self._at(f'{split}/{COUNT}')} says {said!r:.40}, expected the number of tars beside it")
        return int(said)

    def _lines(self, name: str) -> tuple[str, ...]:
        """The lines of a text, without spaces around them; OSError or ValueError if there is none to read."""
        try:
            text = files.read_all(self._at(name)).decode("utf-8-sig")
        except FileNotFoundError as error:
            raise ValueError(f"there is no {self._at(name)}, which belongs to the layout of CLIP_benchmark") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._at(name)} is no text: {error}") from error
        return tuple(line.strip() for line in text.rstrip().splitlines())

    def _at(self, name: str) -> str:
        return files.join(self.root(), name)


def _with_lines(rows: pa.Table) -> pa.Table:
    """Every line of a caption as one of its own."""
    if rows["default_caption"].null_count == rows.num_rows:
        return rows
    lines = [
        list(dict.fromkeys(line.strip() for text in texts for line in text.splitlines() if line.strip()))
        if texts is not None else None
        for texts in rows["default_caption"].to_pylist()
    ]  # fmt: skip
    at = rows.column_names.index("default_caption")
    return rows.set_column(
        at, FOUND.field("default_caption"), pc.cast(pa.array(lines), FOUND.field("default_caption").type)
    )
