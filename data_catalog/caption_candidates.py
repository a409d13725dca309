"""The texts that images of a dataset may be trained with, by kind, as flat columns: millions of them in a second."""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import store
from data_catalog.caption_rows import CAME_ALONG, GIVEN, REPEATED, CaptionRef, CaptionScores, flat
from data_catalog.shards import TEXTS, DatasetRef

Kind = Literal["default", "synthetic_merged", "synthetic", "primer", "template", "captioner", "fusion", "seed"]
NAMES = pa.list_(REPEATED)
TRAINING_TEXTS = pa.schema(
    [
        ("texts", TEXTS),  # null: the image has none
        ("weights", pa.list_(pa.float32())),  # how often each is drawn, sums to 1; null: equally often
        ("score", pa.float32()),  # the best CLIP score among them; null where none is known
        ("kinds", NAMES),  # of each text
        ("captioners", NAMES),  # of each text: its id, or `given`
    ]
)


class Candidates(NamedTuple):
    """Texts that images may be trained with, one row each, by image."""

    image: np.ndarray  # int64: row of the sample table, ascending
    text: pa.ChunkedArray
    kind: np.ndarray  # int32: place in `Library.kinds`
    captioner: np.ndarray  # int32: place in `Library.captioners`
    words: np.ndarray  # int32, -1: not counted
    leak: np.ndarray  # int8, -1: not looked for
    fallback: np.ndarray  # bool
    score: np.ndarray  # float32, NaN: not known
    weight: np.ndarray  # float32, NaN: equally often

    def where(self, keep: np.ndarray) -> "Candidates":
        """Those at the places (int) that `keep` names, or where it is true."""
        places = np.flatnonzero(keep) if keep.dtype == bool else keep
        columns = {name: column[places] for name, column in self._asdict().items() if name != "text"}
        return Candidates(text=self.text.take(pa.array(places)), **columns)


class Library:
    """The texts of one dataset: those that came along and those that captioners wrote, with their scores."""

    def __init__(self, dataset: DatasetRef, captions: Sequence[CaptionRef], scores: Sequence[CaptionScores]):
        self.captions = captions
        self.captioners = list(dict.fromkeys([CAME_ALONG, *(ref.captioner for ref in captions)]))
        self.kinds = list(Kind.__args__)
        self.name, self._dataset = dataset.name, dataset.digest
        self._scores = {ref.captions: ref for ref in scores}
        samples = store.read_table(dataset.digest, ["id", "split"])
        self._ids = samples["id"].combine_chunks()
        self.images = len(self._ids)
        self.is_train = pc.equal(samples["split"], "train").to_numpy()

    def candidates(self, kind: Kind) -> Candidates:
        """All texts of one kind."""
        if kind in GIVEN:
            return self._given(kind)
        return joined([self._written(ref, kind) for ref in self.captions])

    def _given(self, kind: Kind) -> Candidates:
        lists = store.read_table(self._dataset, [GIVEN[kind]])[GIVEN[kind]]
        images, text = flat(lists)
        table = pa.table({"text": text})
        return self._columns(table, images, kind, CAME_ALONG, self._scores_of(self._dataset, kind, len(images)))

    def _written(self, ref: CaptionRef, kind: Kind) -> Candidates:
        names = ["sample", "text", "words", "leak", "fallback", "kind"]
        table = store.read_table(ref.digest, names)
        table = table.filter(pc.equal(table["kind"].cast(pa.string()), kind))
        images = pc.index_in(table["sample"], value_set=self._ids).to_numpy()
        return self._columns(table, images, kind, ref.captioner, self._scores_of(ref.digest, kind, len(images)))

    def _columns(
        self, table: pa.Table, images: np.ndarray, kind: Kind, captioner: str, score: np.ndarray
    ) -> Candidates:
        def column(name: str, unknown: int, dtype: type) -> np.ndarray:
            known = name in table.column_names
            return table[name].to_numpy().astype(dtype) if known else np.full(len(images), unknown, dtype)

        return Candidates(
            image=images.astype(np.int64),
            text=table["text"],
            kind=np.full(len(images), self.kinds.index(kind), np.int32),
            captioner=np.full(len(images), self.captioners.index(captioner), np.int32),
            words=column("words", -1, np.int32),
            leak=column("leak", -1, np.int8),
            fallback=column("fallback", 0, bool),
            score=score,
            weight=np.full(len(images), np.nan, np.float32),
        )

    def _scores_of(self, captions: str, kind: Kind, count: int) -> np.ndarray:
        """The scores of one kind, which stand in the order of the texts; NaN without any."""
        if captions not in self._scores:
            return np.full(count, np.nan, np.float32)
        table = store.read_table(self._scores[captions].digest, ["kind", "clip_score"])
        score = table["clip_score"].filter(pc.equal(table["kind"].cast(pa.string()), kind))
        return score.to_numpy().astype(np.float32)


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Several sets of texts as one, by image; of an image in the order of the parts."""
    filled = [part for part in parts if len(part.image)]
    if len(filled) == 1:
        return filled[0]
    if not filled:
        return parts[0] if parts else NOTHING
    columns = {name: np.concatenate([getattr(part, name) for part in filled])
               for name in Candidates._fields if name != "text"}  # fmt: skip
    text = pa.chunked_array([chunk for part in filled for chunk in part.text.chunks], pa.string())
    whole = Candidates(text=text, **columns)
    return whole.where(np.argsort(whole.image, kind="stable"))


def preferred(parts: Iterable[Candidates], images: int) -> Candidates:
    """For each image the texts of the first part that has any; parts that no image needs are not asked for."""
    served, kept = np.zeros(images, bool), []
    for part in parts:
        fresh = ~served[part.image]
        kept.append(part if fresh.all() else part.where(fresh))
        served[part.image] = True
        if served.all():
            break
    return joined(kept)


def one_each(texts: Candidates) -> Candidates:
    """The first text of each image."""
    return texts.where(np.diff(texts.image, prepend=-1) > 0)


def as_table(chosen: Candidates, library: Library) -> pa.Table:
    """One row per image (schema TRAINING_TEXTS)."""
    count = np.bincount(chosen.image, minlength=library.images)
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    silent = pa.array(count == 0)
    best = np.full(library.images, -np.inf, np.float32)
    if not np.isnan(chosen.score).all():
        np.maximum.at(best, chosen.image, np.nan_to_num(chosen.score, nan=-np.inf))
    is_even = np.isnan(chosen.weight)
    weight = np.where(is_even, 1 / count[chosen.image], chosen.weight).astype(np.float32)
    weights = pa.ListArray.from_arrays(offsets, pa.array(weight), mask=silent)
    columns = [
        pa.ListArray.from_arrays(offsets, chosen.text.combine_chunks(), mask=silent),
        pa.nulls(library.images, pa.list_(pa.float32())) if is_even.all() else weights,
        pa.array(best, mask=~np.isfinite(best)),
        _named(offsets, chosen.kind, library.kinds, silent),
        _named(offsets, chosen.captioner, library.captioners, silent),
    ]
    return pa.table(columns, schema=TRAINING_TEXTS)


def _named(offsets: np.ndarray, codes: np.ndarray, names: list[str], silent: pa.Array) -> pa.ListArray:
    values = pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string()))
    return pa.ListArray.from_arrays(offsets, values, mask=silent)


NOTHING = Candidates(
    np.zeros(0, np.int64), pa.chunked_array([], pa.string()), np.zeros(0, np.int32), np.zeros(0, np.int32),
    np.zeros(0, np.int32), np.zeros(0, np.int8), np.zeros(0, bool), np.zeros(0, np.float32), np.zeros(0, np.float32),
)  # fmt: skip
