"""Whether two checkpoints differ by more than the choice of images: paired tests over the same images.

The checkpoints swap their outcomes of images picked at random: of one dataset that flips signs of differences (for
accuracy McNemar's test), of a summary it does so in all its datasets. Adjusted by Holm (1979). Intervals resample the
images of each dataset, with the outcomes of both checkpoints together.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from data_catalog.refs import Spec
from models.evaluation.intervals import SIGN_FLIPS, between, difference, flipped_sums, generator, resampled_sums
from models.evaluation.metrics import CLASSES, Kind, contributions
from models.evaluation.scores import SUMMARY_METRICS, EvalReport, mean_score
from models.evaluation.summaries import BENCHMARK, Weights, weighted_mean

REPLICATES = 10_000
ROUNDING = 1e-12  # differences that are equal but for rounding are as far


class Paired(Spec):
    """By how much the first checkpoint exceeds the second in one number."""

    name: str  # a dataset or a summary
    first: float
    second: float
    difference: float
    low: float  # 95 % of bootstrap samples of the difference lie between low and high
    high: float
    p: float  # two-sided
    adjusted_p: float  # by Holm over all datasets, or over the three summaries, these also for the pairs looked at

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
    sets: tuple[Sequence[EvalSet], Sequence[EvalSet]] = ((), ()),
    pairs: int = 1,
) -> Comparison:
    """`first` against `second` on every dataset of the summaries and in the three summaries.

    `sets`: what either was scored on, where that is known, so that images are told apart that have equal classes.
    `pairs`: so many this pair was picked from for what it shows, which the p-values of the summaries are multiplied by.
    Reads the outcomes of both from the store. Raises ValueError where one was not scored on a dataset, has no outcomes
    of it, or was scored on other images, and MissingArtifact for outcomes that have gone.
    """
    names = list(dict.fromkeys((*adaptation, *retention)))
    _refuse_other_images(names, *sets)
    paired = {name: paired_contributions(first, second, name) for name in names}
    found = [
        (mean_score(first, datasets, role, weights), mean_score(second, datasets, role, weights))
        for role, datasets in (("adaptation", adaptation), ("retention", retention))
    ]
    found.append(tuple(math.sqrt(a * b) for a, b in zip(*found, strict=True)))
    scattered, swapped = (
        _of_summaries({name: draw(name, *paired[name]) for name in names}, adaptation, retention, weights)
        for draw in (_pair_replicates, _swap_replicates)
    )
    summaries = [_of_summary(*row) for row in zip(BENCHMARK, found, scattered, swapped, strict=True)]
    datasets = [_of_dataset(name, *paired[name]) for name in names]
    return Comparison(datasets=_adjusted(datasets), summaries=_adjusted(summaries, pairs))


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
            f"{tables[1].num_rows}), or among other classes: evaluate both on the same split and subset"
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
    """What must agree for two tables to be of the same images: targets and classes, or texts per image."""
    if kind == "classification":
        return [(outcomes.schema.metadata or {}).get(CLASSES), *outcomes["target"].to_pylist()]
    return outcomes["text_ranks"].combine_chunks().value_lengths().to_pylist()


def _refuse_other_images(names: Sequence[str], first: Sequence[EvalSet], second: Sequence[EvalSet]) -> None:
    known = [{scored.name: scored for scored in scored_sets} for scored_sets in (first, second)]
    both = [name for name in names if name in known[0] and name in known[1]]
    if other := [name for name in both if not _are_same(known[0][name], known[1][name])]:
        raise ValueError(
            f"the two checkpoints were scored on different images or texts of {', '.join(other)}: evaluate both on the "
            "same split and subset, which a seed is part of"
        )


def _are_same(first: EvalSet, second: EvalSet) -> bool:
    """Whether two sets hold the same images in the same order, for retrieval the same texts too; prompts may differ."""
    if first.kind == "retrieval" and first.texts != second.texts:
        return False
    if first.digest == second.digest:
        return True
    images = [store.read_table(scored.digest, ["hash", "id"]) for scored in (first, second)]
    by = "id" if any(table["hash"].null_count for table in images) else "hash"  # some sources are indexed unread
    return images[0][by].equals(images[1][by])


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


def _swap_replicates(name: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    apart = flipped_sums(first - second, generator(name, "swap"))  # a swapped image turns the sign of its difference
    both = first.sum() + second.sum()
    means = np.stack([both + apart, both - apart], axis=1) / (2 * len(first))  # [SIGN_FLIPS, 2]
    return np.maximum(means, 0)  # they are, but for rounding


def _of_summaries(
    drawn: Mapping[str, np.ndarray], adaptation: Sequence[str], retention: Sequence[str], weights: Weights
) -> list[np.ndarray]:
    """By how much the first exceeds the second in each of the three summaries: [draws]."""
    sides = [weighted_mean(drawn, datasets, weights) for datasets in (adaptation, retention)]  # 2 of [draws, 2]
    return [side[:, 0] - side[:, 1] for side in (*sides, np.sqrt(sides[0] * sides[1]))]


def _of_summary(name: str, found: tuple[float, float], scattered: np.ndarray, swapped: np.ndarray) -> Paired:
    """p is the share of swaps that set the two as far apart as they were found, which counts as one of them."""
    low, high = between(scattered)
    first, second = found
    as_far = np.count_nonzero(np.abs(swapped) >= abs(first - second) - ROUNDING)
    p = (1 + int(as_far)) / (1 + SIGN_FLIPS)
    return Paired(
        name=name, first=first, second=second, difference=first - second, low=low, high=high, p=p, adjusted_p=p
    )


def _adjusted(rows: Sequence[Paired], pairs: int = 1) -> tuple[Paired, ...]:
    adjusted = holm([row.p for row in rows])
    return tuple(
        row.model_copy(update={"adjusted_p": min(1.0, pairs * p)}) for row, p in zip(rows, adjusted, strict=True)
    )
