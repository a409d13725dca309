"""A stream without an end: what arrived when, and the plan of all steps so far (FoMo-in-Flux, arXiv 2408.14471, 3.3).

Samples arrive, not concepts: a class may go on growing for years. What arrives later changes no earlier step.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import store
from data_catalog.captions import CaptionPolicy, CaptionRef, CaptionScores
from data_catalog.exclusions import Exclusions
from data_catalog.plan_rows import NEVER, PRETRAINING, Sources
from data_catalog.refs import Ref
from data_catalog.sample_columns import TrainingRows, read_columns, training_rows
from data_catalog.shards import DatasetRef
from data_catalog.stream import StepSummary, StreamPlan, plan_table

MEMBERS = pa.schema([("dataset", pa.dictionary(pa.int32(), pa.string())), ("key", pa.string())])


class Arrival(Ref):
    """The samples of one step; the digest names a table with a row per sample: dataset, and id with content hash."""

    samples: dict[str, int] = Field(min_length=1)  # dataset -> how many

    @property
    def total(self) -> int:
        """How many samples arrived."""
        return sum(self.samples.values())


def in_words(samples: Mapping[str, int]) -> str:
    """How many of which dataset."""
    return ", ".join(f"{count} of {name}" for name, count in sorted(samples.items()))


def find_arrival(
    datasets: Sequence[DatasetRef], earlier: Sequence[Arrival], exclusions: Sequence[Exclusions] = ()
) -> Arrival | None:
    """The training samples that are in no earlier arrival, None if there are none.

    A sample is its id and its content: a picture that was replaced under its old name arrives anew. What `exclusions`
    drop does not arrive, until it is dropped no more.
    """
    known = _keys_of(earlier)
    names, keys, counts = [], [], {}
    for dataset in sorted(datasets, key=lambda dataset: dataset.name):
        rows = training_rows(dataset, exclusions)
        there = _keys(dataset, rows).filter(pa.array(~rows.dropped))
        fresh = there.filter(pc.invert(pc.is_in(there, value_set=known)))
        if len(fresh):
            names.append(pa.repeat(pa.scalar(dataset.name), len(fresh)))
            keys.append(fresh)
            counts[dataset.name] = len(fresh)
    if not counts:
        return None
    table = pa.table([pa.chunked_array(names).dictionary_encode(), pa.chunked_array(keys)], schema=MEMBERS)
    return Arrival(digest=store.write_table(table.combine_chunks(), stage="find_arrival"), samples=counts)


def compose_living(
    datasets: Sequence[DatasetRef],
    captions: Sequence[CaptionRef],
    arrivals: Sequence[Arrival],
    pretraining: Sequence[str],
    policy: CaptionPolicy = CaptionPolicy(),  # noqa: B008 frozen
    caption_scores: Sequence[CaptionScores] = (),
    exclusions: Sequence[Exclusions] = (),
) -> StreamPlan:
    """The stream whose step t is `arrivals[t]`, as far as its samples are still there.

    The same object as a benchmark stream: `stream.compose_step` draws from it. As long as earlier samples stay, steps
    composed from it are the bytes they were when they came last. Raises ValueError for samples without text, and if
    nothing is left of the newest arrival.
    """
    sources = Sources.of(datasets, captions, policy, caption_scores)._replace(has_targets=False)
    found = [training_rows(dataset, exclusions) for dataset in sources.datasets]
    members, steps = _keys_of(arrivals), _steps_of(arrivals)
    step_of = []
    for dataset, rows in zip(sources.datasets, found, strict=True):
        if dataset.name in pretraining:
            step = np.full(len(rows.row), PRETRAINING, np.int32)
        else:
            place = pc.index_in(_keys(dataset, rows), value_set=members).fill_null(-1).to_numpy()
            step = np.append(steps, np.int32(NEVER))[place]  # -1, in no arrival, is the last
        step_of.append(np.where(rows.dropped, np.int32(NEVER), step))
        sources.require_texts(dataset, rows.row[step_of[-1] != NEVER])
    if not any((step == len(arrivals) - 1).any() for step in step_of):
        raise ValueError(
            f"no sample of the newest arrival ({', '.join(arrivals[-1].samples)}) is there any more: bring its files "
            "back, or choose the data of the step anew: `evergreen live --afresh`"
        )
    digest = store.write_table(
        plan_table(found, step_of, sources), stage="compose_living", arrivals=[a.digest for a in arrivals],
        pretraining=list(pretraining), exclusions=list(exclusions),
    )  # fmt: skip
    return StreamPlan(
        digest=digest,
        steps=tuple(_summary(t, found, step_of, sources) for t in range(len(arrivals))),
        pretraining_samples=sum(int((step == PRETRAINING).sum()) for step in step_of),
    )


def _summary(step: int, found: Sequence[TrainingRows], step_of: Sequence[np.ndarray], sources: Sources) -> StepSummary:
    names, concepts, samples = [], 0, 0
    for dataset, rows, steps in zip(sources.datasets, found, step_of, strict=True):
        here = steps == step
        if count := int(here.sum()):
            names.append(dataset.name)
            concepts += len(np.unique(rows.concept[here & (rows.concept >= 0)]))
            samples += count
    return StepSummary(name=f"step {step}", concepts=concepts, samples=samples, datasets=tuple(names))


def _keys(dataset: DatasetRef, rows: TrainingRows) -> pa.Array:
    """Id and content hash of each training row; of data indexed unread the id alone."""
    table = read_columns(dataset, ["id", "hash"]).take(pa.array(rows.row)).combine_chunks()
    hashes = pa.array([h.hex() if h is not None else "" for h in table["hash"].to_pylist()], pa.string())
    return pc.binary_join_element_wise(table["id"].combine_chunks(), hashes, "#")


def _keys_of(arrivals: Sequence[Arrival]) -> pa.Array:
    tables = [store.read_table(arrival.digest, ["key"])["key"] for arrival in arrivals]
    return pa.chunked_array([c for t in tables for c in t.chunks], pa.string()).combine_chunks()


def _steps_of(arrivals: Sequence[Arrival]) -> np.ndarray:
    return np.repeat(np.arange(len(arrivals), dtype=np.int32), [arrival.total for arrival in arrivals])
