"""Means over datasets with their intervals: those of the benchmark and those of the user's own groups and weights."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from data_catalog import store
from data_catalog.refs import Spec
from models.evaluation.intervals import between, generator, resampled_share
from models.evaluation.metrics import estimates
from models.evaluation.scores import (
    SUMMARY_METRICS,
    EvalReport,
    Score,
    dataset_weights,
    geometric_mean,
    mean_score,
)

BENCHMARK = ("knowledge_accumulation", "zero_shot_retention", "geometric_mean")

Weights = Mapping[str, float] | None


class Summary(Spec):
    """One number over several datasets; 95 % of bootstrap samples of their images lie between low and high."""

    name: str
    value: float
    low: float | None = None  # null: a retrieval set among them has no outcomes to resample
    high: float | None = None
    datasets: tuple[str, ...]


def benchmark_summaries(
    report: EvalReport, adaptation: Sequence[str], retention: Sequence[str], weights: Weights = None
) -> tuple[Summary, Summary, Summary]:
    """Knowledge accumulation, zero-shot retention and their geometric mean (reference 9.2), with intervals.

    Each dataset is resampled by itself. The intervals say how far other images would have moved the numbers; how far
    another seed of training would have, only another run says. Raises ValueError for sets that were not scored.
    """
    drawn = replicates_of(report, [*adaptation, *retention])
    sides = [("adaptation", adaptation), ("retention", retention)]
    values = [mean_score(report, datasets, role, weights) for role, datasets in sides]
    scattered = [_mean_replicates(drawn, datasets, weights) for _, datasets in sides]
    both = None if any(draws is None for draws in scattered) else np.sqrt(scattered[0] * scattered[1])
    return tuple(
        _summary(*row)
        for row in zip(
            BENCHMARK,
            (*values, geometric_mean(*values)),
            (*scattered, both),
            (adaptation, retention, (*adaptation, *retention)),
            strict=True,
        )
    )


def group_summaries(
    report: EvalReport, groups: Mapping[str, Sequence[str]], weights: Weights = None
) -> tuple[Summary, ...]:
    """The weighted mean of each of the user's groups of datasets, in their order, with intervals."""
    drawn = replicates_of(report, list(dict.fromkeys(name for datasets in groups.values() for name in datasets)))
    return tuple(
        _summary(
            name,
            mean_score(report, datasets, f"group {name!r}:", weights),
            _mean_replicates(drawn, datasets, weights),
            datasets,
        )
        for name, datasets in groups.items()
    )


def replicates_of(report: EvalReport, datasets: Sequence[str]) -> dict[str, np.ndarray]:
    """Dataset -> the value that enters the summaries over resampled images [REPLICATES], where that can be drawn.

    Accuracies need no more than their value and number of images; recall needs the outcomes of the report, which it
    reads from the store. A set without them is left out. Raises MissingArtifact for outcomes that have gone.
    """
    scores = {score.dataset: score for score in report.scores if score.metric in SUMMARY_METRICS}
    drawn = {name: _replicates(report, scores[name]) for name in datasets if name in scores}
    return {name: draws for name, draws in drawn.items() if draws is not None}


def _replicates(report: EvalReport, score: Score) -> np.ndarray | None:
    draw = generator(score.dataset, score.metric)
    if score.metric == "accuracy_top1":
        return resampled_share(round(score.value * score.samples), score.samples, draw)
    if score.dataset not in report.outcomes:
        return None
    outcomes = store.read_table(report.outcomes[score.dataset], ["image_rank", "text_ranks"])
    return estimates(score.dataset, "retrieval", outcomes)[score.metric].replicates(draw)


def weighted_mean(drawn: Mapping[str, np.ndarray], datasets: Sequence[str], weights: Weights = None) -> np.ndarray:
    """The weighted mean over `datasets` of what was drawn for each of them: [replicates, ...]."""
    used = dataset_weights(datasets, weights)
    return sum(used[name] * drawn[name] for name in datasets) / math.fsum(used.values())


def _mean_replicates(drawn: Mapping[str, np.ndarray], datasets: Sequence[str], weights: Weights) -> np.ndarray | None:
    return weighted_mean(drawn, datasets, weights) if set(datasets) <= set(drawn) else None


def _summary(name: str, value: float, draws: np.ndarray | None, datasets: Sequence[str]) -> Summary:
    low, high = (None, None) if draws is None else between(draws)
    return Summary(name=name, value=value, low=low, high=high, datasets=tuple(datasets))
