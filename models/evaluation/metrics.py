"""Every metric of one dataset from its outcomes: what became of each of its images (reference 9.1).

An outcome table has one row per image. Classification: `rank`, `target`, `confidence`, with the number of classes in
the metadata of its schema (`CLASSES`), and `probe_hit` where a linear probe was asked for. Retrieval: `image_rank` and
`text_ranks`. `clean` and `concept` where known. Columns that no metric needs may be missing or there.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.evaluation import calibration
from models.evaluation.intervals import between, generator, resampled_share, resampled_sums
from models.evaluation.per_class import class_mean, resampled_class_means
from models.evaluation.scores import Score, clean_metric

Kind = Literal["classification", "retrieval"]
Draws = Callable[[np.random.Generator], np.ndarray]

CLASSES = b"classes"  # key of the schema's metadata: how many classes an image could have been taken for
TOP_5_CLASSES = 10  # with fewer classes the top-5 accuracy says little
RECALL_AT = (1, 5, 10)


@dataclass(frozen=True)
class Estimate:
    """A metric of one dataset: its value over `samples` images, and how resampling them would scatter it."""

    value: float
    samples: int
    replicates: Draws = field(repr=False)  # generator -> values over resampled images [REPLICATES]


def scores_of(dataset: str, kind: Kind, outcomes: pa.Table, bootstrap: bool = True) -> list[Score]:
    """All metrics of `dataset`, then all over its clean images, with 95 % intervals if `bootstrap`.

    An interval is drawn by the names of dataset and metric, so it depends on the outcomes alone. The clean metrics
    count clean images only; what they are ranked among stays the same. Raises ValueError on outcomes that lack columns.
    """
    found = estimates(dataset, kind, outcomes)
    return [_score(dataset, metric, estimate, bootstrap) for metric, estimate in found.items()]


def estimates(dataset: str, kind: Kind, outcomes: pa.Table) -> dict[str, Estimate]:
    """Metric -> its estimate, those over the clean images at the end; for summaries that resample many datasets."""
    _refuse_unusable(dataset, kind, outcomes)
    measure = _classification if kind == "classification" else _retrieval
    whole = dict(measure(outcomes))
    if "clean" not in outcomes.column_names:
        return whole
    kept = outcomes.filter(pc.field("clean"))
    if not kept.num_rows:
        logging.getLogger(__name__).warning("every image of %s was trained on: it has no clean scores", dataset)
        return whole
    return whole | {clean_metric(metric): found for metric, found in measure(kept)}


def concept_scores(dataset: str, kind: Kind, outcomes: pa.Table, bootstrap: bool = True) -> dict[str, Score]:
    """Concept -> the metric of the summaries (top-1 accuracy or recall@5) over its images, by name.

    Concepts of retrieval are ranked among all images and texts. Raises ValueError where no concept is known.
    """
    _refuse_unusable(dataset, kind, outcomes)
    if "concept" not in outcomes.column_names:
        raise ValueError(f"the outcomes of {dataset} name no concepts; score it again on a set whose images have them")
    known = outcomes.filter(pc.is_valid(outcomes["concept"]))
    metric = "accuracy_top1" if kind == "classification" else "recall_at_5"
    rows = (_column(known, "rank") == 0) if kind == "classification" else _recall_rows(known, 5)
    concepts = known["concept"].combine_chunks().dictionary_encode()
    of_concept = concepts.indices.to_numpy()
    in_order = rows[np.argsort(of_concept, kind="stable")]
    parts = np.split(in_order, np.bincount(of_concept).cumsum()[:-1]) if len(rows) else []
    names = dict(sorted(zip(concepts.dictionary.to_pylist(), parts, strict=True)))
    measure = _share if kind == "classification" else (lambda part: _ratio(part, _recall))
    return {name: _score(dataset, metric, measure(part), bootstrap, name) for name, part in names.items()}


def contributions(kind: Kind, outcomes: pa.Table) -> np.ndarray:
    """What each image adds to the metric of the summaries: float64 [n], whose mean is that metric.

    Classification: 1 for a hit at top 1, else 0. Retrieval: half its own hit and half those of its texts, scaled to the
    mean number of texts per image.
    """
    if kind == "classification":
        return (_column(outcomes, "rank") == 0).astype(np.float64)
    hit, text_hits, texts = _recall_rows(outcomes, 5).T
    return (hit + text_hits * (len(texts) / texts.sum())) / 2


def _classification(outcomes: pa.Table) -> Iterator[tuple[str, Estimate]]:
    rank, confidence, target = (_column(outcomes, name) for name in ("rank", "confidence", "target"))
    hit, samples = rank == 0, len(rank)
    yield "accuracy_top1", _share(hit)
    if classes_of(outcomes) >= TOP_5_CLASSES:
        yield "accuracy_top5", _share(rank < 5)
    yield (
        "accuracy_per_class",
        Estimate(class_mean(target, hit), samples, lambda draw: resampled_class_means(target, hit, draw)),
    )
    yield (
        "calibration_error",
        Estimate(
            calibration.calibration_error(confidence, hit),
            samples,
            lambda draw: calibration.resampled_errors(confidence, hit, draw),
        ),
    )
    if "probe_hit" in outcomes.column_names:
        yield "accuracy_linear_probe", _share(_column(outcomes, "probe_hit"))


def _share(hit: np.ndarray) -> Estimate:
    hits, samples = int(np.count_nonzero(hit)), len(hit)
    return Estimate(hits / samples, samples, lambda draw: resampled_share(hits, samples, draw))


def _retrieval(outcomes: pa.Table) -> Iterator[tuple[str, Estimate]]:
    for k in RECALL_AT:
        rows = _recall_rows(outcomes, k)
        for name, recall in (("recall_at", _recall), ("image_to_text_at", _to_text), ("text_to_image_at", _to_image)):
            yield f"{name}_{k}", _ratio(rows, recall)


def _ratio(rows: np.ndarray, recall: Callable[[np.ndarray, int], np.ndarray]) -> Estimate:
    value = float(recall(rows.sum(0)[None], len(rows))[0])
    return Estimate(value, len(rows), lambda draw: recall(resampled_sums(rows, draw), len(rows)))


def _recall(sums: np.ndarray, images: int) -> np.ndarray:
    return (_to_image(sums, images) + _to_text(sums, images)) / 2


def _to_text(sums: np.ndarray, images: int) -> np.ndarray:
    return sums[:, 0] / images


def _to_image(sums: np.ndarray, images: int) -> np.ndarray:
    return sums[:, 1] / sums[:, 2]


def _recall_rows(outcomes: pa.Table, k: int) -> np.ndarray:
    """Per image: whether it hits at `k`, how many of its texts do, how many it has: float64 [n, 3]."""
    ranks = outcomes["text_ranks"].combine_chunks()
    texts = ranks.value_lengths().to_numpy(zero_copy_only=False)  # [n]
    owner = np.repeat(np.arange(len(texts)), texts)
    text_hits = np.bincount(owner, ranks.flatten().to_numpy(zero_copy_only=False) < k, minlength=len(texts))
    return np.stack([_column(outcomes, "image_rank") < k, text_hits, texts], axis=1).astype(np.float64)


def _score(dataset: str, metric: str, found: Estimate, bootstrap: bool, *concept: str) -> Score:
    low, high = between(found.replicates(generator(dataset, metric, *concept))) if bootstrap else (None, None)
    return Score(dataset=dataset, metric=metric, value=found.value, samples=found.samples, low=low, high=high)


def classes_of(outcomes: pa.Table) -> int:
    """Among how many classes the images of a classification set were ranked."""
    return int(outcomes.schema.metadata[CLASSES])


def _column(outcomes: pa.Table, name: str) -> np.ndarray:
    return outcomes[name].to_numpy()


def _refuse_unusable(dataset: str, kind: Kind, outcomes: pa.Table) -> None:
    needed = ("target", "rank", "confidence") if kind == "classification" else ("image_rank", "text_ranks")
    if lacking := [name for name in needed if name not in outcomes.column_names]:
        raise ValueError(f"the outcomes of {dataset} lack {', '.join(lacking)}, which {kind} needs; score it again")
    if not outcomes.num_rows:
        raise ValueError(f"the outcomes of {dataset} hold no image; ingest its test split or leave it out")
    if nulls := [name for name in needed if outcomes[name].null_count]:
        raise ValueError(f"the outcomes of {dataset} have images without {', '.join(nulls)}; score it again")
    if kind == "classification" and CLASSES not in (outcomes.schema.metadata or {}):
        raise ValueError(
            f"the outcomes of {dataset} do not say among how many classes it was scored: put them into the metadata of "
            "the schema, as table.replace_schema_metadata({metrics.CLASSES: str(classes)})"
        )
    if kind == "retrieval" and not pc.all(pc.greater(pc.list_value_length(outcomes["text_ranks"]), 0)).as_py():
        raise ValueError(f"{dataset} has images without a text, which could never hit; leave them out of the set")
