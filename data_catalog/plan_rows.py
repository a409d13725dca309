"""The rows of a stream plan and what they stand for: samples and texts of its datasets."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_catalog import store
from data_catalog.caption_policy import Weighted
from data_catalog.captions import CaptionPolicy, CaptionRef, CaptionScores, training_texts
from data_catalog.draws import PoolRows
from data_catalog.sample_columns import codes_of, read_columns
from data_catalog.shards import DatasetRef

PRETRAINING = -1  # the step of the rows of the pretraining pool
NEVER = -2  # the step of rows that are in no part of a plan
PROVENANCE = {"text": "texts", "caption_kind": "kinds", "captioner": "captioners"}  # per draw: of lists per sample


class PlanRows(NamedTuple):
    """The columns of a plan as numbers; `dataset` is the place among the datasets of its Sources."""

    step: np.ndarray
    dataset: np.ndarray
    row: np.ndarray
    marked: np.ndarray

    @classmethod
    def read(cls, digest: str) -> "tuple[PlanRows, Sources]":
        """The rows of a stored plan and the tables they point into."""
        table = store.read_table(digest)
        sources = Sources.described_by(table.schema.metadata[b"evergreen"])
        place = {dataset.name: i for i, dataset in enumerate(sources.datasets)}
        names = table["dataset"].unify_dictionaries().combine_chunks()
        code = np.array([*(place[name] for name in names.dictionary.to_pylist()), 0])[codes_of(names)]
        step, row, marked = (table[name].to_numpy() for name in ("step", "row", "marked"))
        return cls(step, code, row, marked), sources


class Sources(NamedTuple):
    """The sample tables of a plan, by name of the dataset, with their captions and how one is chosen."""

    datasets: tuple[DatasetRef, ...]
    captions: tuple[CaptionRef, ...]
    policy: CaptionPolicy
    scores: tuple[CaptionScores, ...]
    has_targets: bool = True  # False in endless streams: a class that arrives later may move the place of the others

    @classmethod
    def of(
        cls,
        datasets: Iterable[DatasetRef],
        captions: Iterable[CaptionRef],
        policy: CaptionPolicy,
        scores: Iterable[CaptionScores],
    ) -> "Sources":
        """The same in whatever order they are given; captions and scores of other datasets are left out."""
        ordered = tuple(sorted(datasets, key=lambda dataset: dataset.name))
        place = {dataset.digest: i for i, dataset in enumerate(ordered)}
        said, scored = (
            tuple(
                sorted((ref for ref in refs if ref.dataset in place), key=lambda ref: (place[ref.dataset], ref.digest))
            )
            for refs in (captions, scores)
        )
        plain = (dataset.model_copy(update={"quarantine": None}) for dataset in ordered)  # what was refused is no part
        return cls(tuple(plain), said, policy, scored)

    @classmethod
    def described_by(cls, metadata: bytes) -> "Sources":
        """What `metadata` was made of."""
        fields = json.loads(metadata)
        return cls(
            tuple(DatasetRef(**ref) for ref in fields["datasets"]),
            tuple(CaptionRef(**ref) for ref in fields["captions"]),
            CaptionPolicy.model_validate(fields["policy"]),
            tuple(CaptionScores(**ref) for ref in fields["scores"]),
            fields.get("has_targets", True),
        )

    def metadata(self) -> dict[str, str]:
        """Everything here as metadata of a table."""
        lists = {"datasets": self.datasets, "captions": self.captions, "scores": self.scores}
        fields: dict = {name: [ref.model_dump(mode="json") for ref in refs] for name, refs in lists.items()}
        unused = {"prefer"} if isinstance(self.policy.choice, Weighted) else set()  # its weights name the kinds
        fields["policy"] = self.policy.model_dump(mode="json", exclude=unused)
        if not self.has_targets:
            fields["has_targets"] = False
        return {"evergreen": json.dumps(fields, sort_keys=True)}

    def texts(self, dataset: DatasetRef) -> pa.Table:
        """The texts of every sample of a dataset; see `training_texts`."""
        return training_texts(dataset, self.captions, self.policy, self.scores)

    def require_texts(self, dataset: DatasetRef, rows: np.ndarray) -> None:
        """Raise ValueError if one of the rows has no text to train on."""
        silent = self.texts(dataset)["texts"].is_null().to_numpy()[rows]
        if silent.any():
            first = read_columns(dataset, ["id"])["id"][int(rows[silent.argmax()])]
            raise ValueError(
                f"{silent.sum()} training images of {dataset.name} have no text, first {first}; caption them"
            )

    def pool(self, rows: PlanRows, positions: np.ndarray, uses: Iterable[str]) -> PoolRows:
        """The rows at `positions` of a plan with the columns that a policy uses."""
        held = PoolRows(rows.step[positions], rows.dataset[positions], tuple(d.name for d in self.datasets))
        if "concept" in uses:
            held = held._replace(concept=np.empty(len(positions), np.int64))
        if "score" in uses:
            held = held._replace(score=np.empty(len(positions), np.float32))
        for code, inside in self._parts(rows, positions):
            dataset, row = self.datasets[code], rows.row[positions[inside]]
            if held.concept is not None:
                concept = read_columns(dataset, ["concept"])["concept"].combine_chunks()
                held.concept[inside] = (code << 32) + codes_of(concept)[row].astype(np.int64)
            if held.score is not None:
                held.score[inside] = self.texts(dataset)["score"].to_numpy()[row]
        return held

    def columns(
        self, rows: PlanRows, positions: np.ndarray, names: Sequence[str], luck: np.ndarray | None = None
    ) -> pa.Table:
        """Columns of the sample tables for the rows at `positions`, in their order and as often as they occur.

        With `luck`, a number from 0 to 1 per position, also text, caption_kind and captioner: of one of the texts.
        """
        used, again = np.unique(positions, return_inverse=True)
        where, parts, said = np.empty(len(used), np.int64), [], []
        for code, inside in self._parts(rows, used):
            taken = pa.array(rows.row[used[inside]])
            where[inside] = np.arange(len(inside)) + sum(part.num_rows for part in parts)
            parts.append(read_columns(self.datasets[code], names).take(taken))
            if luck is not None:
                said.append(self.texts(self.datasets[code]).take(taken))
        place = where[again]
        table = pa.concat_tables(parts).unify_dictionaries().combine_chunks().take(pa.array(place))
        if luck is not None:
            for name, column in _chosen(pa.concat_tables(said).combine_chunks(), place, luck).items():
                table = table.append_column(name, column)
        return table

    def _parts(self, rows: PlanRows, positions: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(dataset, which of the positions belong to it) for every dataset among them."""
        dataset = rows.dataset[positions]
        order = np.argsort(dataset, kind="stable")
        ends = np.searchsorted(dataset[order], np.arange(len(self.datasets) + 1))
        for code in range(len(self.datasets)):
            if ends[code] < ends[code + 1]:
                yield code, order[ends[code] : ends[code + 1]]


def _chosen(texts: pa.Table, rows: np.ndarray, luck: np.ndarray) -> dict[str, pa.Array]:
    """One text of each row's list with what is known of it: the one that `luck` falls on."""
    lists = texts["texts"].combine_chunks()
    picked = pa.array(_start(lists)[rows] + _places(lists, texts["weights"].combine_chunks(), rows, luck))
    found = {name: texts[column].combine_chunks().values.take(picked) for name, column in PROVENANCE.items()}
    return {name: column if name == "text" else column.dictionary_encode() for name, column in found.items()}


def _places(lists: pa.ListArray, weights: pa.ListArray, rows: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """The place inside each row's list that `luck` falls on: alike, or by the row's weights if it has any."""
    length = np.diff(_start(lists), append=len(lists.values))[rows]
    weighted = weights.is_valid().to_numpy(zero_copy_only=False)[rows]
    places = (luck * length).astype(np.int64)
    if weighted.any():
        total = np.cumsum(np.concatenate([[0.0], weights.values.to_numpy().astype(np.float64)]))
        start = _start(weights)[rows[weighted]]
        low, high = total[start], total[start + length[weighted]]
        found = np.searchsorted(total, low + luck[weighted] * (high - low), side="right") - 1 - start
        places[weighted] = np.minimum(found, length[weighted] - 1)
    return places


def _start(lists: pa.ListArray) -> np.ndarray:
    return lists.offsets.to_numpy().astype(np.int64)[:-1]
