"""The stream: which samples arrive at which step, and what one step of training sees."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import registry, store
from data_catalog.captions import CaptionRef
from data_catalog.mixture import Mixture, split_batch
from data_catalog.orderings import AnyOrdering
from data_catalog.orderings.base import Concept
from data_catalog.orderings.from_file import read_stream
from data_catalog.refs import Ref, Spec
from data_catalog.seeds import rng
from data_catalog.shards import TEXTS, DatasetRef

PRETRAINING = -1  # the step of the rows of the pretraining pool
BATCH_ORDER = ("update", "buffer", "pretraining")  # the parts of a batch (reference section 4)
REPEATED = pa.dictionary(pa.int32(), pa.string())  # strings that repeat: thousands of names for millions of rows
PLAN = pa.schema(
    [
        ("step", pa.int32()),
        ("id", pa.string()),
        ("dataset", REPEATED),
        ("concept", REPEATED),
        ("target", pa.int32()),
        ("shard", REPEATED),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("hash", pa.binary(32)),
        ("texts", TEXTS),
    ]
)
DRAWN = ("id", "concept", "target", "shard", "offset", "length", "hash")  # of PLAN, per draw of a step


class StepSummary(Spec):
    """One step of a stream in a few numbers."""

    name: str  # e.g. "step 3"
    concepts: int
    samples: int
    datasets: tuple[str, ...]


class StreamPlan(Ref):
    """A composed stream; the digest names one Parquet file with a row per (step, sample).

    Rows of the pretraining pool carry step -1; see PLAN for the columns.
    """

    steps: tuple[StepSummary, ...]
    pretraining_samples: int = Field(ge=0)


class StepPlan(Ref):
    """Everything one update sees, in the order it sees it; the digest names a Parquet file with one row per draw.

    Row k * batch_size + i is position i of the batch of iteration k.
    """

    step: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    iterations: int = Field(ge=1)
    samples: dict[str, int]  # pool -> draws


def chunks(n: int, steps: int) -> list[int]:
    """How many of `n` concepts arrive at each step: equal shares, the first n mod steps get one more."""
    if steps < 1 or steps > n:
        raise ValueError(f"{n} concepts cannot be spread over {steps} steps, expected 1 to {n} steps; change `steps`")
    size, rest = divmod(n, steps)
    return [size + 1] * rest + [size] * (steps - rest)


def outline(stream_file: str | Path, steps: int, batch_size: int, mixture: Mixture) -> list[dict]:
    """Concepts, datasets and batch of each step, from a stream file and the registry alone.

    Datasets that a `datasets.json` beside the stream file describes are known too.
    """
    listing = Path(stream_file).with_name("datasets.json")
    beside = registry.described_in(listing) if listing.is_file() else ()
    known = registry.by_name([*registry.benchmark(), *beside])
    stream = [_resolved(entry, known, stream_file) for entry in read_stream(Path(stream_file))]
    if len(set(stream)) < len(stream):
        raise ValueError(
            f"{stream_file} names a concept twice under two names of its dataset; every concept arrives once"
        )
    return [
        {
            "step": step,
            "concepts": len(chunk),
            "datasets": sorted({concept.dataset for concept in chunk}),
            "batch": split_batch(batch_size, mixture, step),
        }
        for step, chunk in enumerate(_chunked(stream, steps))
    ]


def compose_stream(
    datasets: list[DatasetRef],
    captions: list[CaptionRef],
    ordering: AnyOrdering,
    steps: int,
    seed: int,
    pretraining: list[str],
) -> StreamPlan:
    """Spread the concepts that `ordering` names over `steps` steps, with all their training samples.

    The training samples of the datasets named in `pretraining` are the pretraining pool. If no other dataset is given,
    the steps are empty: a stream for mixtures of pretraining alone. Raises ValueError for names that fit nothing, for
    more steps than concepts and for training samples without text.
    """
    _check_names(datasets, pretraining)
    text_of = {ref.dataset: ref for ref in captions}
    streamed = {d.name: _train_rows(d, text_of) for d in _by_name(datasets) if d.name not in pretraining}
    pool = [_train_rows(d, text_of) for d in _by_name(datasets) if d.name in pretraining]
    concepts = [Concept(name, concept) for name, rows in streamed.items() for concept in _concepts(rows)]
    if concepts:
        plan_of = _chunked(ordering.order(concepts, rng(seed, "ordering")), steps)
    elif streamed:
        raise ValueError(f"none of {sorted(streamed)} has a training sample with a concept; a stream needs some")
    else:
        plan_of = [[] for _ in range(steps)]
    parts = [_in_steps(name, rows, plan_of) for name, rows in streamed.items()]
    parts += [_at_step(rows, np.full(rows.num_rows, PRETRAINING)) for rows in pool]
    plan = _sorted_by_step(parts)
    digest = store.write_table(
        plan,
        stage="compose_stream",
        datasets=[d.digest for d in datasets],
        captions=[c.digest for c in captions],
        ordering=ordering.model_dump(mode="json", exclude={"path"}) | {"content": ordering.content()},
        steps=steps,
        seed=seed,
        pretraining=pretraining,
    )
    counts = np.bincount(plan["step"].to_numpy() + 1, minlength=steps + 1)
    summaries = tuple(_summary(step, chunk, int(counts[step + 1])) for step, chunk in enumerate(plan_of))
    return StreamPlan(digest=digest, steps=summaries, pretraining_samples=int(counts[0]))


def draw(pool_size: int, count: int, virtual_length: int, seed: int, step: int, pool: str) -> np.ndarray:
    """Which `count` samples of a pool a step sees, in order; a pure function of its arguments.

    A pool smaller than `virtual_length` is repeated to that length and shuffled as a whole, so that in a full pass
    every sample appears equally often up to one; a larger one is shuffled without repetition.
    """
    length = max(pool_size, virtual_length)
    if pool_size < 1 or count > length:
        raise ValueError(f"cannot draw {count} samples from {pool_size} of the {pool} pool in one pass of {length}")
    return rng(seed, "draw", step, pool).permutation(length)[:count] % pool_size


def compose_step(
    plan: StreamPlan, step: int, mixture: Mixture, batch_size: int, iterations: int, seed: int
) -> StepPlan:
    """Every draw of one step in training order, each batch ordered as in BATCH_ORDER, with the text of each draw.

    Columns: iteration, pool, those in DRAWN, and text: one of the texts of the sample, chosen anew per draw. Raises
    ValueError if the mixture asks for samples of a pool that is empty at this step.
    """
    if not 0 <= step < len(plan.steps):
        raise ValueError(f"step {step} is not in a stream of {len(plan.steps)} steps, counted from 0")
    table = store.read_table(plan.digest)
    pools = pool_rows(table["step"].to_numpy(), step)
    sizes = _sizes(pools, mixture, batch_size, step)
    length = iterations * batch_size
    drawn = {p: pools[p][draw(len(pools[p]), n * iterations, length, seed, step, p)] for p, n in sizes.items()}
    rows = _interleaved(drawn, iterations)
    luck = _interleaved({p: rng(seed, "text", step, p).random(n * iterations) for p, n in sizes.items()}, iterations)
    batch = np.repeat(np.arange(len(sizes), dtype=np.int32), list(sizes.values()))
    columns = {
        "iteration": pa.array(np.repeat(np.arange(iterations, dtype=np.int32), batch_size)),
        "pool": pa.DictionaryArray.from_arrays(np.tile(batch, iterations), pa.array(list(sizes), pa.string())),
        **{name: _without_unused(table[name].take(pa.array(rows))) for name in DRAWN},
        "text": _chosen(table["texts"], rows, luck),
    }
    origin = {"stage": "compose_step", "plan": plan.digest, "step": step, "mixture": mixture, "seed": seed}
    return StepPlan(
        digest=store.write_table(_compact(pa.table(columns)), **origin),
        step=step,
        batch_size=batch_size,
        iterations=iterations,
        samples={pool: n * iterations for pool, n in sizes.items()},
    )


def pool_rows(step_of_row: np.ndarray, step: int) -> dict[str, np.ndarray]:
    """The rows of a plan that each pool holds at a step: the buffer is everything streamed before, without limit."""
    return {
        "update": np.flatnonzero(step_of_row == step),
        "buffer": np.flatnonzero((step_of_row >= 0) & (step_of_row < step)),
        "pretraining": np.flatnonzero(step_of_row == PRETRAINING),
    }


def _sizes(pools: dict[str, np.ndarray], mixture: Mixture, batch_size: int, step: int) -> dict[str, int]:
    """Samples of a batch per pool, in the order of the batch, without the pools that give none."""
    sizes = split_batch(batch_size, mixture, step)
    for pool in ("pretraining", "buffer"):
        if getattr(mixture, pool) == 0 and not len(pools[pool]):  # only the rounding gave it samples
            sizes["update"] += sizes[pool]
            sizes[pool] = 0
    if empty := [pool for pool, size in sizes.items() if size and not len(pools[pool])]:
        raise ValueError(
            f"the {empty[0]} pool is empty at step {step} but gives {sizes[empty[0]]} samples of each "
            f"batch: set its share in `mixture` to 0 (now {getattr(mixture, empty[0])}) or give it datasets"
        )
    return {pool: sizes[pool] for pool in BATCH_ORDER if sizes[pool]}


def _interleaved(parts: dict[str, np.ndarray], iterations: int) -> np.ndarray:
    """The parts of all batches as one sequence: batch after batch, and in each the parts in their order."""
    return np.concatenate([part.reshape(iterations, -1) for part in parts.values()], axis=1).ravel()


def _chosen(texts: pa.ChunkedArray, rows: np.ndarray, luck: np.ndarray) -> pa.ChunkedArray:
    """One text of each row's list, the one at the fraction `luck` of it."""
    whole = pa.chunked_array(texts.chunks, texts.type).combine_chunks()
    starts = whole.offsets.to_numpy()
    picked = starts[rows] + (luck * (starts[rows + 1] - starts[rows])).astype(np.int64)
    return pa.chunked_array([whole.values]).take(pa.array(picked))


def _without_unused(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A dictionary of only the strings that occur: what arrives later in the stream leaves no trace in a step."""
    if not pa.types.is_dictionary(column.type):
        return column
    return column.cast(column.type.value_type).dictionary_encode()


def _train_rows(dataset: DatasetRef, captions: dict[str, CaptionRef]) -> pa.Table:
    """The training samples of a dataset with their texts: PLAN without the step."""
    if dataset.digest not in captions:
        raise ValueError(f"{dataset.name} ({dataset.digest[:19]}) has no captions among those given; caption it first")
    names = [name for name in PLAN.names if name not in ("step", "texts")]
    samples = store.read_table(dataset.digest, columns=["split", *names])
    samples = samples.filter(pc.field("split") == "train").select(names).replace_schema_metadata(None)
    said = store.read_table(captions[dataset.digest].digest, columns=["sample", "texts"])
    place = pc.index_in(samples["id"], value_set=said["sample"].combine_chunks())
    if place.null_count:
        silent = samples["id"].filter(place.is_null())
        raise ValueError(
            f"{len(silent)} training images of {dataset.name} have no text, first {silent[0]}; caption them"
        )
    return samples.append_column("texts", said["texts"].take(place))


def _in_steps(dataset: str, rows: pa.Table, plan_of: list[list[Concept]]) -> pa.Table:
    """The rows whose concept arrives in the stream, at the step at which it does."""
    step_of = {c.name: step for step, chunk in enumerate(plan_of) for c in chunk if c.dataset == dataset}
    names = rows["concept"].combine_chunks().dictionary_encode()
    step_of_name = np.array([*(step_of.get(name, PRETRAINING) for name in names.dictionary.to_pylist()), PRETRAINING])
    steps = step_of_name[names.indices.fill_null(len(names.dictionary)).to_numpy(zero_copy_only=False)]
    arrives = steps != PRETRAINING
    return _at_step(rows.filter(pa.array(arrives)), steps[arrives])


def _at_step(rows: pa.Table, steps: np.ndarray) -> pa.Table:
    table = rows.add_column(0, "step", pa.array(steps.astype(np.int32)))
    encoded = [column if column.type == field.type else _encoded(column, field.type)
               for column, field in zip(table.columns, PLAN, strict=True)]  # fmt: skip
    return pa.table(encoded, schema=PLAN)


def _encoded(column: pa.ChunkedArray, to: pa.DataType) -> pa.ChunkedArray:
    return column.dictionary_encode().cast(to) if pa.types.is_dictionary(to) else column.cast(to)


def _sorted_by_step(parts: Sequence[pa.Table]) -> pa.Table:
    """One table, steps ascending, inside a step the datasets by name and their samples in their own order."""
    whole = pa.concat_tables(parts) if parts else PLAN.empty_table()
    order = np.argsort(whole["step"].to_numpy(), kind="stable")
    return _compact(whole.unify_dictionaries().take(pa.array(order)))


def _compact(table: pa.Table) -> pa.Table:
    """One chunk per column, so that equal rows make equal bytes."""
    return table.unify_dictionaries().combine_chunks()


def _concepts(rows: pa.Table) -> Iterator[str]:
    return (name for name in pc.unique(rows["concept"]).to_pylist() if name is not None)


def _chunked(stream: list[Concept], steps: int) -> list[list[Concept]]:
    ends = np.cumsum([0, *chunks(len(stream), steps)])
    return [stream[start:end] for start, end in pairwise(ends)]


def _summary(step: int, chunk: list[Concept], samples: int) -> StepSummary:
    names = tuple(sorted({concept.dataset for concept in chunk}))
    return StepSummary(name=f"step {step}", concepts=len(chunk), samples=samples, datasets=names)


def _by_name(datasets: list[DatasetRef]) -> list[DatasetRef]:
    return sorted(datasets, key=lambda dataset: dataset.name)


def _check_names(datasets: list[DatasetRef], pretraining: list[str]) -> None:
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names):
        raise ValueError(f"two datasets have the same name among {sorted(names)}; a stream tells them apart by name")
    for name in pretraining:
        if name not in names:
            raise ValueError(f"pretraining dataset {name!r} was not given; {registry.close_to(name, names)}")


def _resolved(entry: Concept, known: dict[str, registry.DatasetEntry], stream_file: str | Path) -> Concept:
    if entry.dataset not in known:
        raise ValueError(
            f"{stream_file} names dataset {entry.dataset!r}, which nobody knows; "
            f"{registry.close_to(entry.dataset, known)}"
        )
    return Concept(known[entry.dataset].info_prefix, entry.name)
