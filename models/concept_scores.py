"""What a checkpoint says of concepts before a stream is ordered (FoMo-in-Flux, arXiv 2408.14471; reference 3.2)."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_catalog.captions import CaptionPolicy, CaptionRef, CaptionScores
from data_catalog.concept_scores import AnyScore, ConceptScores, NameEmbeddings, store_scores
from data_catalog.exclusions import Exclusions
from data_catalog.orderings.base import Concept
from data_catalog.plan_rows import PlanRows, Sources
from data_catalog.sample_columns import TrainingRows, training_rows
from data_catalog.seeds import rng
from data_catalog.shards import DatasetRef, facts
from models.checkpoints import CheckpointRef
from models.embeddings import IMAGE_COLUMNS, Progress, embed_images, embed_texts, on_device

_PAIRS_AT_ONCE = 4096  # embedded between two reports of progress
_NO_POLICY = CaptionPolicy()


class Pairs(NamedTuple):
    """Image-text pairs to compute losses on: of each concept one after the other, and of the reference pool."""

    concepts: list[Concept]
    sizes: np.ndarray  # pairs of each concept
    own: pa.Table  # columns IMAGE_COLUMNS and text
    reference: pa.Table  # likewise, twice as many as a concept has at most


def score_concepts(
    checkpoint: CheckpointRef,
    datasets: Sequence[DatasetRef],
    score: AnyScore,
    captions: Sequence[CaptionRef] = (),
    reference: Sequence[DatasetRef] = (),
    seed: int = 0,
    policy: CaptionPolicy = _NO_POLICY,
    caption_scores: Sequence[CaptionScores] = (),
    progress: Progress | None = None,
    exclusions: Sequence[Exclusions] = (),
) -> ConceptScores:
    """Score every concept of the training samples of `datasets`, the way `score` says; what orderings need.

    `captions`: of `datasets` and of the pool `reference`, as are their scores; only losses look at these, and only at
    samples that no exclusion drops: a concept that has no others gets no loss.
    """
    origin = {"stage": "score_concepts", "checkpoint": checkpoint, "score": score, "seed": seed}
    origin |= {"datasets": [d.digest for d in datasets], "reference": [d.digest for d in reference]}
    origin |= {"exclusions": [*exclusions]}
    model = on_device(checkpoint)
    if isinstance(score, NameEmbeddings):
        concepts, values = name_embeddings(model, checkpoint.backbone, datasets)
    else:
        if both := {dataset.name for dataset in datasets} & {dataset.name for dataset in reference}:
            raise ValueError(
                f"{sorted(both)} are scored and their own reference; name a `reference` outside the stream"
            )
        sources = Sources.of([*datasets, *reference], captions, policy, caption_scores)
        pairs = draw_pairs(sources, {dataset.name for dataset in reference}, score.pairs, seed, exclusions)
        concepts, values = pairs.concepts, pair_losses(model, checkpoint.backbone, pairs, score.pairs, progress)
    return store_scores(score.kind, concepts, values, **origin)


def name_embeddings(
    model: nn.Module, backbone: str, datasets: Sequence[DatasetRef]
) -> tuple[list[Concept], np.ndarray]:
    """The embedding [concepts, dim] of each concept's templated name, of the bare name where there is no template."""
    concepts, prompts = [], []
    for dataset in sorted(datasets, key=lambda dataset: dataset.name):
        known, rows = facts(dataset), training_rows(dataset, ())
        names = sorted(rows.names[code] for code in np.unique(rows.concept) if code >= 0)
        concepts += [Concept(dataset.name, name) for name in names]
        prompts += [name if known.prompt_template is None else known.prompt(name) for name in names]
    _require_concepts(concepts)
    distinct = list(dict.fromkeys(prompts))  # equal names are equal to the last bit
    place = {prompt: i for i, prompt in enumerate(distinct)}
    embeddings = embed_texts(model, backbone, distinct).numpy()
    return concepts, embeddings[[place[prompt] for prompt in prompts]]


def draw_pairs(
    sources: Sources, reference: Collection[str], count: int, seed: int, exclusions: Sequence[Exclusions] = ()
) -> Pairs:
    """At most `count` random training pairs of each concept, and twice as many of the datasets named in `reference`.

    The same reference pairs stand beside every concept, so that they make no difference between two.
    """
    concepts, own, pool = [], [], []
    for code, dataset in enumerate(sources.datasets):
        rows = training_rows(dataset, exclusions)
        has_text = sources.texts(dataset)["texts"].is_valid().to_numpy()[rows.row] & ~rows.dropped
        if dataset.name in reference:
            pool.append(_rows(code, rows.row[has_text]))
            continue
        mixed = rng(seed, "pairs", dataset.name).permutation(np.flatnonzero(has_text & (rows.concept >= 0)))
        for name, places in _by_concept(rows, mixed):
            concepts.append(Concept(dataset.name, name))
            own.append(_rows(code, rows.row[places[:count]]))
    _require_concepts(concepts)
    every = _joined(pool)
    if len(every.row) < 2 * count:
        raise ValueError(
            f"the reference pool {sorted(reference)} has {len(every.row)} training pairs, expected at least "
            f"{2 * count}: twice `pairs`; name a larger `reference`, datasets outside the stream"
        )
    chosen = rng(seed, "reference").permutation(len(every.row))[: 2 * count]
    tables = _table(sources, _joined(own), None, seed, "own"), _table(sources, every, chosen, seed, "reference")
    return Pairs(concepts, np.array([len(rows.row) for rows in own]), *tables)


def pair_losses(
    model: nn.Module, backbone: str, pairs: Pairs, count: int, progress: Progress | None = None
) -> np.ndarray:
    """The loss of each concept: symmetric InfoNCE of a batch of `count` of its pairs and `count` reference pairs.

    A concept with fewer pairs is filled up from the reference pool, since the loss grows with the batch; its own pairs
    then still count one half, as they do where there are enough.
    """
    scale = model.logit_scale.detach().exp().float().cpu()
    reference = _embedded(model, backbone, pairs.reference)
    losses, ends = [], np.cumsum(pairs.sizes)
    at_once = max(1, _PAIRS_AT_ONCE // count)
    for start in range(0, len(ends), at_once):
        sizes = pairs.sizes[start : start + at_once]
        first = ends[start] - sizes[0]
        embedded = _embedded(model, backbone, pairs.own.slice(first, sizes.sum()))
        for images, texts in zip(*(part.split(sizes.tolist()) for part in embedded), strict=True):
            filled = [torch.cat([own, pool[: 2 * count - len(own)]])
                      for own, pool in zip((images, texts), reference, strict=True)]  # fmt: skip
            losses.append(balanced_loss(*filled, scale, len(images)))
        if progress:
            progress("score concepts", start + len(sizes), len(ends))
    return np.array(losses)


def balanced_loss(images: Tensor, texts: Tensor, scale: Tensor, own: int) -> float:
    """`clip_loss` with the first `own` pairs and the rest weighing one half each; equal to it if they are as many."""
    logits = scale * images @ texts.T  # [batch, batch]
    target = torch.arange(len(logits))
    rows = F.cross_entropy(logits, target, reduction="none") + F.cross_entropy(logits.T, target, reduction="none")
    return float((rows[:own].mean() + rows[own:].mean()) / 4)


def _embedded(model: nn.Module, backbone: str, table: pa.Table) -> tuple[Tensor, Tensor]:
    images = embed_images(model, backbone, table.select(IMAGE_COLUMNS))
    return images, embed_texts(model, backbone, table["text"].to_pylist())


def _by_concept(rows: TrainingRows, places: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(name, its places in their order) by name."""
    order = places[np.argsort(rows.concept[places], kind="stable")]
    codes, starts = np.unique(rows.concept[order], return_index=True)
    parts = dict(zip((rows.names[code] for code in codes), np.split(order, starts[1:]), strict=False))
    yield from sorted(parts.items())


def _rows(dataset: int, row: np.ndarray) -> PlanRows:
    none = np.zeros(len(row), np.int32)
    return PlanRows(none, none + dataset, row, none.astype(bool))


def _joined(parts: Sequence[PlanRows]) -> PlanRows:
    columns = zip(*[_rows(0, np.zeros(0, np.int64)), *parts], strict=True)
    return PlanRows(*(np.concatenate(column) for column in columns))


def _table(sources: Sources, rows: PlanRows, places: np.ndarray | None, seed: int, purpose: str) -> pa.Table:
    chosen = np.arange(len(rows.row)) if places is None else places
    luck = rng(seed, "text", purpose).random(len(chosen))
    return sources.columns(rows, chosen, IMAGE_COLUMNS, luck)


def _require_concepts(concepts: Sequence[Concept]) -> None:
    if not concepts:
        raise ValueError("none of the datasets has a training sample with a concept; there is nothing to score")
