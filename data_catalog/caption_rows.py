"""Texts of images as rows: what came with the data, what a captioner wrote, and how good each text is."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import store
from data_catalog.metadata import CAPTIONS
from data_catalog.refs import Ref
from data_catalog.shards import DatasetRef

REPEATED = pa.dictionary(pa.int32(), pa.string())  # strings that repeat: a few for millions of rows
CAPTION_ROWS = pa.schema(
    [
        ("sample", pa.string()),
        ("position", pa.int32()),  # of the text among those of the sample in this table, from 0
        ("kind", REPEATED),
        ("text", pa.string()),
        ("captioner", REPEATED),  # its id
        ("model", REPEATED),  # name and revision, or architecture and digest; null if no model was asked
        ("prompt", REPEATED),  # version of the prompt, or the prompt itself
        ("settings", REPEATED),  # JSON: whatever else decides the text
        ("words", pa.int32()),
        ("leak", pa.bool_()),  # whether the text repeats its instruction
        ("fallback", pa.bool_()),  # whether the captioner failed and the template stands in
    ]
)
SCORES = pa.schema(
    [("sample", pa.string()), ("position", pa.int32()), ("clip_score", pa.float32()), ("kind", REPEATED)]
)
GIVEN = {field.removesuffix("_caption"): field for field in CAPTIONS}  # kind -> column of the sample table
CAME_ALONG = "given"  # the captioner of texts that came with the data
LEAK = (  # what only an instruction to merge two sentences, or a refusal, says
    r"(?i)real[- ]world (knowledge|details?|information)|sentence structure|well[- ]structured sentence|"
    r"\bsentences? [12]\b|false information|\b(seed|draft) caption\b|\bclass name\b|"
    r"\bas an? (ai|language model)\b|\bi(['’]m| am) (sorry|unable)\b|\bi (cannot|can['’]t)\b"
)


class CaptionRef(Ref):
    """What one captioner wrote about the images of one dataset; the digest names a table (schema CAPTION_ROWS)."""

    dataset: str  # digest of the DatasetRef
    name: str
    captioner: str  # its id: the kind, and what tells it apart from others of that kind

    @property
    def kind(self) -> str:
        """The kind of the captioner."""
        return self.captioner.partition(":")[0]


class CaptionScores(Ref):
    """How well texts fit their images to a checkpoint: cosine similarities, in a table with the schema SCORES.

    It has a row for each row of the scored captions, in their order; the score is null where the image was left out.
    """

    dataset: str  # digest of the DatasetRef
    captions: str  # digest of the CaptionRef, or that of the dataset for the texts that came along
    name: str
    checkpoint: str  # digest


class Origin(NamedTuple):
    """Where a text comes from, as in CAPTION_ROWS."""

    captioner: str
    model: str | None = None
    prompt: str | None = None
    settings: str = "{}"


class Texts(NamedTuple):
    """Texts of one kind and origin; `rows` says to which row of a sample table each belongs, ascending."""

    kind: str
    origin: Origin
    rows: np.ndarray  # int64 [texts]
    text: pa.Array
    fallback: np.ndarray | None = None  # bool [texts]; None: no text is one


def caption_rows(samples: pa.ChunkedArray, texts: list[Texts]) -> pa.Table:
    """All texts as one table (schema CAPTION_ROWS): by sample, and of a sample in the order of `texts`."""
    texts = [part for part in texts if len(part.rows)]
    if not texts:
        return CAPTION_ROWS.empty_table()
    rows = np.concatenate([part.rows for part in texts])
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    text = pa.chunked_array([part.text for part in texts], pa.string()).take(pa.array(order)).combine_chunks()
    words, leak = quality(text)
    fallback = np.concatenate([part.fallback if part.fallback is not None else np.zeros(len(part.rows), bool)
                               for part in texts])  # fmt: skip
    columns = {
        "sample": samples.take(pa.array(rows)),
        "position": pa.array(positions(rows), pa.int32()),
        "kind": _repeated([part.kind for part in texts], texts, order),
        "text": text,
        **{name: _repeated([getattr(part.origin, name) for part in texts], texts, order) for name in Origin._fields},
        "words": words,
        "leak": leak,
        "fallback": pa.array(fallback[order]),
    }
    return pa.table(columns, schema=CAPTION_ROWS).unify_dictionaries().combine_chunks()


def given_rows(dataset: DatasetRef) -> pa.Table:
    """The texts that came with a dataset, of all four kinds (schema CAPTION_ROWS)."""
    samples = store.read_table(dataset.digest, ["id", *GIVEN.values()])
    texts = [Texts(kind, Origin(CAME_ALONG), *flat(samples[field])) for kind, field in GIVEN.items()]
    return caption_rows(samples["id"], texts)


def flat(lists: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """The items of a column of lists, after the row that each belongs to."""
    whole = pa.chunked_array(lists.chunks, lists.type).combine_chunks()
    return pc.list_parent_indices(whole).to_numpy(), pc.list_flatten(whole)


def positions(rows: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... within each run of equal values of `rows`, which ascend."""
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    return np.arange(len(rows)) - np.repeat(starts, np.diff(starts, append=len(rows)))


def quality(text: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Number of words (int32), and whether the text repeats an instruction (bool); equal texts are looked at once."""
    distinct = text.dictionary_encode()
    words, leak = count_words(distinct.dictionary), leaks(distinct.dictionary)
    return words.take(distinct.indices), leak.take(distinct.indices)


def count_words(text: pa.Array) -> pa.Array:
    """Runs of characters without white space, as int32."""
    trimmed = pc.utf8_trim_whitespace(text)
    is_ascii = pc.all(pc.string_is_ascii(trimmed)).as_py() is not False
    return pc.list_value_length((pc.ascii_split_whitespace if is_ascii else pc.utf8_split_whitespace)(trimmed))


def leaks(text: pa.Array) -> pa.Array:
    """Whether each text shows phrases that only its instruction can have put there."""
    return pc.match_substring_regex(text, LEAK)


def _repeated(values: list[str | None], texts: list[Texts], order: np.ndarray) -> pa.DictionaryArray:
    """One value per part, as the dictionary column of all rows."""
    names = sorted({value for value in values if value is not None})
    codes = [names.index(value) if value is not None else -1 for value in values]
    indices = np.repeat(np.array(codes, np.int32), [len(part.rows) for part in texts])[order]
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), pa.array(names, pa.string()))
