"""Images named in tables: CSV, TSV, JSON lines or Parquet, with columns of any name."""

import fnmatch
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import files
from data_catalog.files import FileStat
from data_catalog.refs import Spec
from data_catalog.sources.one_dataset import FOUND, Found, OneDataset, as_found, found_table
from data_catalog.tabular import as_text, read_tabular

_LOOKS_AT_ONCE = 16


class Columns(Spec):
    """Which column of the table says what; dots lead into structs."""

    path: str = Field("path", description="path below `images`, or the whole path or URL of a file below `data`")
    id: str | None = Field(None, description="what tells one sample from all others; by default its path")
    captions: tuple[str, ...] = Field((), description="text, or lists of text; all of them become captions")
    concept: str | None = Field(None, description="name of the class")
    target: str | None = Field(None, description="number of the class in `classnames`")
    split: str | None = Field(None, description="word for the split")
    offset: str | None = Field(None, description="first byte of the image in the file, e.g. a tar")
    length: str | None = Field(None, description="bytes of the image in the file")
    attributes: tuple[str, ...] = Field((), description="what else to keep of a sample")

    def named(self) -> dict[str, str]:
        """The columns with one value, by what they say."""
        single = self.model_dump(exclude={"captions", "attributes"})
        return {meaning: column for meaning, column in single.items() if column is not None}


class Manifest(OneDataset):
    """One row per image; an image that several rows name under one id counts once."""

    kind: Literal["manifest"] = "manifest"
    manifest: str = Field(description="the table below `data`; * stands for many, e.g. meta/*.parquet")
    images: str = Field("", description="folder below `data` that the paths are relative to")
    columns: Columns = Columns()

    def find_files(self) -> dict[str, FileStat]:
        if self.root().startswith("http"):
            return self._looked_at_one_by_one()
        found = files.stat_below(self.root())
        return found if self._tables(found) else {}

    def nothing(self) -> str:
        return f"no table {self.manifest} lies in {self.root()}"

    def is_dataset(self, found: dict[str, FileStat]) -> bool:
        return bool(self._tables(found))

    def find(self, inside: dict[str, FileStat]) -> Found:
        parts = [self._rows(table, inside) for table in self._tables(inside)]
        return Found(pa.concat_tables(parts))

    def _tables(self, inside: dict[str, FileStat]) -> list[str]:
        return [name for name in inside if fnmatch.fnmatchcase(name, self.manifest)]

    def _looked_at_one_by_one(self) -> dict[str, FileStat]:
        """What a table on a web server names, since such a server does not list its files."""
        table = files.stat_one(files.join(self.root(), self.manifest))
        if table is None:
            return {}
        said = read_tabular(files.join(self.root(), self.manifest), [self.columns.path])
        names, _ = self._relative(as_text(said.columns[self.columns.path], self.columns.path))
        wanted = sorted(set(names.drop_null().to_pylist()))
        with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
            stats = pool.map(lambda name: files.stat_one(files.join(self.root(), name)), wanted)
            found = {name: stat for name, stat in zip(wanted, stats, strict=True) if stat}
        return {self.manifest: table} | found

    def _rows(self, table: str, inside: dict[str, FileStat]) -> pa.Table:
        named = self.columns.named()
        wanted = [*dict.fromkeys([*named.values(), *self.columns.captions])]
        said = read_tabular(files.join(self.root(), table), wanted, self.columns.attributes)
        count = len(said.attributes)
        columns = {meaning: as_text(said.columns[column], column) for meaning, column in named.items()}
        file, is_outside = self._relative(columns["path"])
        fields = {"key": columns.get("id", file), "file": file, "attributes": said.attributes}
        fields |= {name: columns[name] for name in ("split", "concept") if name in columns}
        fields["default_caption"] = texts_of_columns([said.columns[name] for name in self.columns.captions], count)
        size = _sizes(file, inside)
        numbers = {name: whole_number(columns[name]) for name in ("target", "offset", "length") if name in columns}
        fields |= {"offset": 0, "length": size} | numbers
        rows = _with_faults(found_table(count, **fields), columns, is_outside, size)
        broken = [{"key": f"{table} {row}", "file": table, "code": "bad_entry", "reason": f"{row} {fault}"}
                  for row, fault in said.faults]  # fmt: skip
        return pa.concat_tables([rows, as_found(broken)])

    def _relative(self, path: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """Paths relative to the root, and which of them are not below it."""
        root = f"{self.root()}/"
        is_whole = pc.starts_with(path, root)
        inside = pc.replace_substring_regex(path, r"^(\./)+", "")
        prefix = f"{self.images.strip('/')}/" if self.images.strip("/") else ""
        inside = pc.binary_join_element_wise(prefix, inside, "")
        file = pc.if_else(is_whole, pc.utf8_slice_codeunits(path, len(root)), inside)
        is_outside = pc.and_(pc.invert(is_whole), pc.match_substring_regex(path, r"^/|^[a-z0-9]+://|(^|/)\.\.(/|$)"))
        return file, is_outside


def _sizes(file: pa.ChunkedArray, inside: dict[str, FileStat]) -> pa.ChunkedArray:
    sizes = pa.array([stat.size for stat in inside.values()], pa.int64())
    return sizes.take(pc.index_in(file, value_set=pa.array(list(inside), pa.string())))


def _with_faults(
    rows: pa.Table, columns: dict[str, pa.ChunkedArray], is_outside: pa.ChunkedArray, size: pa.ChunkedArray
) -> pa.Table:
    """The rows with a code and a reason for those that cannot be a sample, the first fault of each."""
    none = pa.scalar(None, pa.string())
    checks = [(rows["key"].is_null(), "bad_entry", "names no file or has no id"),
              (rows["file"].is_null(), "bad_entry", "names no file"),
              (is_outside, "bad_entry", "names a file outside of `data`: set `data` to a folder that holds both"),
              (size.is_null(), "no_image", "names a file that is not there")]  # fmt: skip
    for name in ("target", "offset", "length"):
        if name in columns:
            is_wrong = rows[name].is_null()
            is_wrong = pc.and_(is_wrong, columns[name].is_valid()) if name == "target" else is_wrong
            checks.append((is_wrong, "bad_entry", f"{name} is no whole number"))
    end = pc.add(pc.fill_null(rows["offset"], 0), pc.fill_null(rows["length"], 0))
    checks.append((pc.greater(end, size), "cut_off", "names bytes behind the end of the file"))
    code = reason = none
    for is_faulty, its_code, its_reason in reversed(checks):
        is_faulty = pc.fill_null(is_faulty, False)
        code, reason = pc.if_else(is_faulty, its_code, code), pc.if_else(is_faulty, its_reason, reason)
    at = rows.column_names.index("code")
    return rows.set_column(at, FOUND.field("code"), code).set_column(at + 1, FOUND.field("reason"), reason)


def whole_number(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as numbers from 0, null for what is none."""
    is_number = pc.match_substring_regex(texts, r"^\s*\d{1,18}\s*$")
    digits = pc.utf8_trim_whitespace(pc.if_else(is_number, texts, pa.scalar(None, pa.string())))
    return pc.cast(digits, pa.int64())


def texts_of_columns(columns: list[pa.ChunkedArray], count: int) -> pa.Array:
    """Columns of text or lists of text as one column of lists, without blanks and repeats; null where nothing is left.

    Raises ValueError for a column of another type.
    """
    rows, texts = [np.zeros(0, np.int64)], [pa.array([], pa.string())]
    for column in columns:
        values = column.combine_chunks()
        values = values if isinstance(values, pa.Array) else pa.concat_arrays(values.chunks)
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            rows.append(pc.list_parent_indices(values).to_numpy())
            values = pc.list_flatten(values)
        else:
            rows.append(np.arange(count))
        texts.append(pc.cast(as_text(pa.chunked_array([values]), "captions"), pa.string()).combine_chunks())
    row, text = np.concatenate(rows), pa.concat_arrays(texts)
    if text.null_count:
        row, text = row[text.is_valid().to_numpy(zero_copy_only=False)], text.drop_null()
    if (row[1:] <= row[:-1]).any():  # several texts of one image
        row, text = _without_repeats(row, text)
    counts = np.bincount(row, minlength=count)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), text, mask=pa.array(counts == 0))


def _without_repeats(row: np.ndarray, text: pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Texts ordered by row, each once per row."""
    order = np.argsort(row, kind="stable")
    row, text = row[order], text.take(order)
    number = text.dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.sort(np.unique(row * (number.max() + 1) + number, return_index=True)[1])
    return row[first], text.take(first)
