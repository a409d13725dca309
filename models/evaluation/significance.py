"""Whether two checkpoints differ by more than the choice of images: paired tests over the same images.

Per dataset signs of the differences are flipped at random (for accuracy this is McNemar's test), and the p-values of
all datasets are adjusted by Holm (1979). Summaries resample the images of each dataset, of both checkpoints together.
"""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data_catalog import store
from data_catalog.refs import Spec
from models.evaluation.intervals import between, difference, generator, resampled_sums
from models.evaluation.metrics import Kind, contributions
from models.evaluation.scores import SUMMARY_METRICS, EvalReport, mean_score
from models.evaluation.summaries import BENCHMARK, Weights, weighted_mean

REPLICATES = 10_000  # so that a p-value of a summary is at least 2e-4


class Paired(Spec):
    """By how much the first checkpoint exceeds the second in one number."""

    name: str  # a dataset or a summary
    first: float
    second: float
    difference: float
    low: float  # 95 % of bootstrap samples of the difference lie between low and high
    high: float
    p: float  # two-sided
    adjusted_p: float  # by Holm over all datasets, or over the three summaries

    @property
    def is_significant(self) -> bool:
        """Whether the adjusted p-value is at most 5 %."""
        return self.adjusted_p <= 0.05


class Comparison(Spec):
    """Two checkpoints side by side."""

    datasets: tuple[Paired, ...]
    summaries: tuple[Paired, ...]  # knowledge accumulation, zero-shot retention, geometric mean


def compare(
    first: EvalReport,
    second: EvalReport,
    adaptation: Sequence[str],
    retention: Sequence[str],
    weights: Weights = None,
) -> Comparison:
    """`first` against `second` on every dataset of the summaries and in the three summaries.

    Reads the outcomes of both from the store. Raises ValueError where one was not scored on a dataset, has no outcomes
    of it, or was scored on other images, and MissingArtifact for outcomes that have gone.
    """
    names = list(dict.fromkeys((*adaptation, *retention)))
    paired = {name: paired_contributions(first, second, name) for name in names}
    rows = [_of_dataset(name, *paired[name]) for name in names]
    drawn = {name: _pair_replicates(name, *paired[name]) for name in names}
    sides = [weighted_mean(drawn, datasets, weights) for datasets in (adaptation, retention)]  # 2 of [replicates, 2]
    found = [
        (mean_score(first, datasets, role, weights), mean_score(second, datasets, role, weights))
        for role, datasets in (("adaptation", adaptation), ("retention", retention))
    ]
    found.append(tuple(math.sqrt(a * b) for a, b in zip(*found, strict=True)))
    sides.append(np.sqrt(sides[0] * sides[1]))
    summaries = [_of_summary(*row) for row in zip(BENCHMARK, found, sides, strict=True)]
    return Comparison(datasets=_adjusted(rows), summaries=_adjusted(summaries))


def paired_contributions(first: EvalReport, second: EvalReport, dataset: str) -> tuple[np.ndarray, np.ndarray]:
    """What each image of `dataset` adds to the metric of the summaries under either checkpoint: two of [n].

    Raises ValueError unless both were scored on the same images in the same order, as far as their outcomes tell.
    """
    kinds = {_kind(report, dataset) for report in (first, second)}
    if len(kinds) != 1:
        raise ValueError(f"{dataset} was classified by one checkpoint and retrieved by the other: nothing to pair")
    tables = [_outcomes(report, dataset) for report in (first, second)]
    kind = kinds.pop()
    if _identity(kind, tables[0]) != _identity(kind, tables[1]):
        raise ValueError(
            f"the two checkpoints were scored on different images of {dataset} ({tables[0].num_rows} and "
            f"{tables[1].num_rows}): evaluate both on the same split and subset"
        )
    return contributions(kind, tables[0]), contributions(kind, tables[1])


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for their number (Holm 1979): the smallest times n, the next times n - 1, and so on."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p_values, float)[order] * factors), 1)
    result = np.empty(len(p_values))
    result[order] = adjusted
    return result.tolist()


def _kind(report: EvalReport, dataset: str) -> Kind:
    for score in report.scores:
        if score.dataset == dataset and score.metric in SUMMARY_METRICS:
            return "classification" if score.metric == "accuracy_top1" else "retrieval"
    raise ValueError(f"the report of {report.checkpoint[:19]} lacks {dataset}; evaluate it")


def _outcomes(report: EvalReport, dataset: str) -> pa.Table:
    if dataset not in report.outcomes:
        raise ValueError(
            f"the report of {report.checkpoint[:19]} keeps no outcomes of {dataset}, so it cannot be paired image by "
            "image; evaluate the checkpoint again"
        )
    return store.read_table(report.outcomes[dataset])


def _identity(kind: Kind, outcomes: pa.Table) -> list:
    """What must agree for two tables to be of the same images: class targets, or how many texts each image has."""
    if kind == "classification":
        return outcomes["target"].to_pylist()
    return outcomes["text_ranks"].combine_chunks().value_lengths().to_pylist()


def _of_dataset(name: str, first: np.ndarray, second: np.ndarray) -> Paired:
    apart = difference(first, second, name)
    return Paired(
        name=name,
        first=float(first.mean()),
        second=float(second.mean()),
        difference=apart.value,
        low=apart.low,
        high=apart.high,
        p=apart.p,
        adjusted_p=apart.p,
    )


def _pair_replicates(name: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    rows = np.stack([first, second], axis=1)
    return resampled_sums(rows, generator(name, "pair"), REPLICATES) / len(rows)  # [replicates, 2]


def _of_summary(name: str, found: tuple[float, float], drawn: np.ndarray) -> Paired:
    """p is twice the share of replicates on the other side of no difference, which counts as one more of them."""
    apart = drawn[:, 0] - drawn[:, 1]
    low, high = between(apart)
    beyond = min(np.count_nonzero(apart <= 0), np.count_nonzero(apart >= 0))
    p = min(1.0, 2 * (1 + int(beyond)) / (1 + len(apart)))
    first, second = found
    return Paired(
        name=name,
        first=first,
        second=second,
        difference=first - second,
        low=low,
        high=high,
        p=p,
        adjusted_p=p,
    )


def _adjusted(rows: Sequence[Paired]) -> tuple[Paired, ...]:
    adjusted = holm([row.p for row in rows])
    return tuple(row.model_copy(update={"adjusted_p": p}) for row, p in zip(rows, adjusted, strict=True))
