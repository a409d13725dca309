"""The stream: which samples arrive at which step, and what one step of training sees."""

import json
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from data_catalog import registry, store
from data_catalog.buffers import AnyBuffer
from data_catalog.buffers.unlimited import Unlimited
from data_catalog.captions import CaptionPolicy, CaptionRef, CaptionScores
from data_catalog.concept_scores import ConceptScores
from data_catalog.cutting import Cut, cut_stream
from data_catalog.draws import Policy, interleaved
from data_catalog.exclusions import Exclusions
from data_catalog.mixture import Mixture, split_batch
from data_catalog.orderings import AnyOrdering
from data_catalog.orderings.base import Background, Concept
from data_catalog.plan_rows import NEVER, PRETRAINING, PlanRows, Sources
from data_catalog.pools import AnyPool
from data_catalog.pools.uniform import Uniform
from data_catalog.refs import Ref, Spec
from data_catalog.sample_columns import TrainingRows, compact, training_rows
from data_catalog.seeds import rng
from data_catalog.shards import DatasetRef, facts

BATCH_ORDER = ("update", "buffer", "pretraining")  # the parts of a batch (reference section 4)
PLAN = pa.schema(
    [
        ("step", pa.int32()),
        ("dataset", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int32()),  # in the sample table of the dataset
        ("marked", pa.bool_()),  # by exclusions that mark
    ]
)
DRAWN = ("id", "concept", "target", "shard", "offset", "length", "hash")  # of the sample table, per draw of a step
SAID = ("text", "caption_kind", "captioner")  # of the text chosen for a draw


class StepSummary(Spec):
    """One step of a stream in a few numbers."""

    name: str  # e.g. "step 3"
    concepts: int
    samples: int
    datasets: tuple[str, ...]


class Excluded(Spec):
    """How many training samples of a plan one of its exclusions named."""

    effect: str  # drop or mark
    cause: str
    samples: int


class StreamPlan(Ref):
    """A composed stream; the digest names one Parquet file with a row per (step, sample), see PLAN for the columns.

    Rows of the pretraining pool carry step -1. The metadata of the file names the sample tables that `row` counts in,
    the captions and the policy that chooses among them.
    """

    steps: tuple[StepSummary, ...]
    pretraining_samples: int = Field(ge=0)
    excluded: tuple[Excluded, ...] = ()


class StepPlan(Ref):
    """Everything one update sees, in the order it sees it; the digest names a Parquet file with one row per draw.

    Row k * batch_size + i is position i of the batch of iteration k.
    """

    step: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    iterations: int = Field(ge=1)
    samples: dict[str, int]  # pool -> draws


def compose_stream(
    datasets: list[DatasetRef],
    captions: list[CaptionRef],
    ordering: AnyOrdering,
    steps: int | None,
    seed: int,
    pretraining: list[str],
    *,
    policy: CaptionPolicy = CaptionPolicy(),  # noqa: B008 frozen
    caption_scores: Sequence[CaptionScores] = (),
    concept_scores: ConceptScores | None = None,
    exclusions: Sequence[Exclusions] = (),
    cut: Cut = "equal",
) -> StreamPlan:
    """Spread the concepts that `ordering` names over `steps` steps, with all their training samples.

    The training samples of the datasets named in `pretraining` are the pretraining pool. If no other dataset is given,
    the steps are empty: a stream for mixtures of pretraining alone. Dropped samples do not change the order of the
    concepts; one that has no other samples takes no part. Raises ValueError for names that fit nothing, for a number of
    steps that the concepts cannot be cut into and for samples without text.
    """
    _check_names(datasets, pretraining)
    sources = Sources.of(datasets, captions, policy, caption_scores)
    found = {dataset.name: training_rows(dataset, exclusions) for dataset in sources.datasets}
    streamed = {name: rows for name, rows in found.items() if name not in pretraining}
    background = Background({d.name: f.year for d in sources.datasets if (f := facts(d)).year}, concept_scores)
    plan_of = _steps(streamed, ordering, background, steps, seed, cut)
    arrives = {concept: step for step, chunk in enumerate(plan_of) for concept in chunk}
    step_of = [steps_of_rows(name, rows, arrives if name in streamed else None) for name, rows in found.items()]
    for dataset, rows, step in zip(sources.datasets, found.values(), step_of, strict=True):
        sources.require_texts(dataset, rows.row[step != NEVER])
    plan = plan_table(list(found.values()), step_of, sources)
    digest = store.write_table(
        plan,
        stage="compose_stream",
        ordering=json.loads(ordering.identity()),
        steps=steps,
        cut=cut,
        seed=seed,
        pretraining=pretraining,
        exclusions=list(exclusions),
        concept_scores=concept_scores,
    )
    counts = np.bincount(plan["step"].to_numpy() + 1, minlength=len(plan_of) + 1).tolist()
    named = [sum(rows.excluded[i] for rows in found.values()) for i in range(len(exclusions))]
    return StreamPlan(
        digest=digest,
        steps=tuple(_summary(step, chunk, counts[step + 1]) for step, chunk in enumerate(plan_of)),
        pretraining_samples=counts[0],
        excluded=tuple(
            Excluded(effect=some.effect, cause=some.cause, samples=count)
            for some, count in zip(exclusions, named, strict=True)
        ),
    )


def datasets_of(plan: StreamPlan) -> tuple[DatasetRef, ...]:
    """The sample tables whose rows a stored plan counts, by name."""
    return Sources.described_by(pq.read_schema(store.locate(plan.digest)).metadata[b"evergreen"]).datasets


def samples_of(plan: StreamPlan) -> pa.Table:
    """The members of a stream: step (-1: the pretraining pool) and sample id, in the order of the plan."""
    rows, sources = PlanRows.read(plan.digest)
    ids = sources.columns(rows, np.arange(len(rows.step)), ("id",))
    return pa.table({"step": pa.array(rows.step, pa.int32()), "sample": ids["id"]}).combine_chunks()


def compose_step(
    plan: StreamPlan,
    step: int,
    mixture: Mixture,
    batch_size: int,
    iterations: int,
    seed: int,
    buffer: AnyBuffer = Unlimited(),  # noqa: B008 frozen
    pool: AnyPool = Uniform(),  # noqa: B008 frozen
) -> StepPlan:
    """Every draw of one step in training order, each batch ordered as in BATCH_ORDER, with the text of each draw.

    Columns: iteration, pool, those in DRAWN, marked and those in SAID: one of the texts of the sample, chosen anew per
    draw. Raises ValueError if the mixture asks for samples of a pool that is empty at this step.
    """
    if not 0 <= step < len(plan.steps):
        raise ValueError(f"step {step} is not in a stream of {len(plan.steps)} steps, counted from 0")
    rows, sources = PlanRows.read(plan.digest)
    pools = pool_rows(rows.step, step)
    sizes = _sizes(pools, mixture, batch_size, step)
    policies: dict[str, Policy] = {"update": Policy(), "buffer": buffer, "pretraining": pool}
    held = {name: sources.pool(rows, pools[name], policies[name].USES) for name in sizes}
    length = iterations * batch_size
    drawn = {p: policies[p].draw(held[p], n * iterations, length, step, seed, p) for p, n in sizes.items()}
    places = interleaved([pools[p][positions] for p, positions in drawn.items()], iterations)
    luck = interleaved([rng(seed, "text", step, p).random(n * iterations) for p, n in sizes.items()], iterations)
    batch = np.repeat(np.arange(len(sizes), dtype=np.int32), list(sizes.values()))
    full = sources.columns(rows, places, DRAWN, luck)
    columns = {
        "iteration": pa.array(np.repeat(np.arange(iterations, dtype=np.int32), batch_size)),
        "pool": pa.DictionaryArray.from_arrays(np.tile(batch, iterations), pa.array(list(sizes), pa.string())),
        **{name: full[name] for name in DRAWN},
        **({} if sources.has_targets else {"target": pa.nulls(len(places), pa.int32())}),
        "text": full["text"],
        "marked": pa.array(rows.marked[places]),
        **{name: full[name] for name in SAID[1:]},
    }
    origin = {"stage": "compose_step", "plan": plan.digest, "step": step, "mixture": mixture, "seed": seed}
    return StepPlan(
        digest=store.write_table(compact(pa.table(columns)), **origin, buffer=buffer, pool=pool),
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


def _steps(
    streamed: Mapping[str, TrainingRows],
    ordering: AnyOrdering,
    background: Background,
    steps: int | None,
    seed: int,
    cut: Cut,
) -> list[list[Concept]]:
    """The concepts of each step; empty steps if no dataset is streamed."""
    concepts = [Concept(name, rows.names[code]) for name, rows in streamed.items() for code in _present(rows)]
    left = {
        Concept(name, rows.names[code]) for name, rows in streamed.items() for code in _present(rows, ~rows.dropped)
    }
    if left:
        ordered = concepts if ordering.needs() is None else sorted(left)  # what is dropped whole has no score
        order = ordering.order(ordered, rng(seed, "ordering"), background)
        known = ordering.dated(background.years)
        return cut_stream([concept for concept in order if concept in left], cut, steps, known)
    if streamed:
        what = "left by the exclusions" if concepts else "with a concept"
        raise ValueError(f"none of {sorted(streamed)} has a training sample {what}; a stream needs some")
    return [[] for _ in range(steps or 1)]


def _present(rows: TrainingRows, which: np.ndarray | slice = slice(None)) -> Iterable[int]:
    return (code for code in np.unique(rows.concept[which]).tolist() if code >= 0)


def steps_of_rows(name: str, rows: TrainingRows, step_of_concept: Mapping[Concept, int] | None) -> np.ndarray:
    """The step of each training row: that of its concept, PRETRAINING where no steps are given, or NEVER."""
    if step_of_concept is None:
        steps = np.full(len(rows.row), PRETRAINING, np.int32)
    else:
        known = [step_of_concept.get(Concept(name, concept), NEVER) for concept in rows.names]
        steps = np.array([*known, NEVER], np.int32)[rows.concept]  # no concept, -1, is the last
    return np.where(rows.dropped, np.int32(NEVER), steps)


def plan_table(found: list[TrainingRows], step_of: list[np.ndarray], sources: Sources) -> pa.Table:
    """One table, steps ascending, inside a step the datasets by name and their samples in their own order."""
    sizes = [len(rows.row) for rows in found]
    step = np.concatenate([np.empty(0, np.int32), *step_of])
    narrow = step.astype(np.int16) if step.max(initial=0) < 1 << 15 else step  # sorted by counting, not comparing
    order = np.argsort(narrow, kind="stable")
    order = order[np.searchsorted(narrow[order], PRETRAINING) :]
    dataset = np.repeat(np.arange(len(found), dtype=np.int32), sizes)
    names = pa.array([dataset.name for dataset in sources.datasets], pa.string())
    columns = [
        pa.array(step[order]),
        pa.DictionaryArray.from_arrays(pa.array(dataset[order]), names),
        pa.array(np.concatenate([np.empty(0, np.int64), *(rows.row for rows in found)])[order].astype(np.int32)),
        pa.array(np.concatenate([np.empty(0, bool), *(rows.marked for rows in found)])[order]),
    ]
    return pa.table(columns, schema=PLAN).replace_schema_metadata(sources.metadata())


def _sizes(pools: dict[str, np.ndarray], mixture: Mixture, batch_size: int, step: int) -> dict[str, int]:
    """Samples of a batch per pool, in the order of the batch, without the pools that give none."""
    sizes = split_batch(batch_size, mixture, step)
    holders = [pool for pool in BATCH_ORDER if len(pools[pool])]
    for pool in sizes:
        if getattr(mixture, pool) == 0 and holders and pool not in holders:  # only the rounding gave it samples
            sizes[holders[0]] += sizes[pool]
            sizes[pool] = 0
    if empty := [pool for pool, size in sizes.items() if size and not len(pools[pool])]:
        raise ValueError(
            f"the {empty[0]} pool is empty at step {step} but gives {sizes[empty[0]]} samples of each "
            f"batch: set its share in `mixture` to 0 (now {getattr(mixture, empty[0])}) or give it datasets"
        )
    return {pool: sizes[pool] for pool in BATCH_ORDER if sizes[pool]}


def _summary(step: int, chunk: list[Concept], samples: int) -> StepSummary:
    names = tuple(sorted({concept.dataset for concept in chunk}))
    return StepSummary(name=f"step {step}", concepts=len(chunk), samples=samples, datasets=names)


def _check_names(datasets: list[DatasetRef], pretraining: list[str]) -> None:
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names):
        raise ValueError(f"two datasets have the same name among {sorted(names)}; a stream tells them apart by name")
    for name in pretraining:
        if name not in names:
            raise ValueError(f"pretraining dataset {name!r} was not given; {registry.close_to(name, names)}")
