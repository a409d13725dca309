"""By how much one checkpoint exceeds another on the same images, with intervals that few images do not narrow to none.

A bootstrap of three images that agree has no width, as if they proved something. So each set is resampled with two
images more, one that only the first checkpoint gets right and one that only the second does: for hits and misses that
is the interval of Bonett & Price 2012 (J. Educ. Behav. Stat. 37(4), adjusted Wald of paired proportions), drawn instead
of approximated.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from models.evaluation.intervals import between, difference, generator, resampled_sums
from models.evaluation.scores import EvalReport, mean_score
from models.evaluation.significance import REPLICATES, paired_contributions
from models.evaluation.summaries import Weights, weighted_mean


class SetMargin(NamedTuple):
    """One set under both checkpoints."""

    first: float
    second: float
    images: int  # 0: there are no outcomes to pair
    p: float | None  # two-sided, of swapping the outcomes of images; McNemar's test for hits and misses
    draws: np.ndarray | None  # [REPLICATES] resampled differences; none without outcomes of both


class Margin(NamedTuple):
    """One number under both checkpoints; 95 % of resampled differences lie between low and high, where known."""

    first: float
    second: float
    low: float | None
    high: float | None

    @property
    def difference(self) -> float:
        """By how much the first exceeds the second."""
        return self.first - self.second


def set_margins(first: EvalReport, second: EvalReport, names: Sequence[str]) -> dict[str, SetMargin]:
    """Each of `names` under both checkpoints, in their order.

    Raises ValueError for a set that either was not scored on, and where both were scored on different images.
    """
    return {name: _set_margin(first, second, name) for name in dict.fromkeys(names)}


def margin(found: SetMargin) -> Margin:
    """The margin on a single set."""
    return Margin(found.first, found.second, *((None, None) if found.draws is None else between(found.draws)))


def mean_margin(
    first: EvalReport, second: EvalReport, found: Mapping[str, SetMargin], names: Sequence[str], weights: Weights = None
) -> Margin:
    """The margin in the mean over `names`, each drawn by itself; without an interval where a set has no outcomes."""
    values = [mean_score(report, names, "compared", weights) for report in (first, second)]
    drawn = {name: found[name].draws for name in names}
    if any(draws is None for draws in drawn.values()):
        return Margin(*values, None, None)
    return Margin(*values, *between(weighted_mean(drawn, names, weights)))


def score_interval(report: EvalReport, name: str) -> tuple[float, float] | tuple[None, None]:
    """Where the score of one set may lie: resampled with one hit and one miss more, as the margins are."""
    if name not in report.outcomes:
        return None, None
    values, _ = paired_contributions(report, report, name)
    return between(_resampled(values, (1.0, 0.0), name, "floor"))


def _set_margin(first: EvalReport, second: EvalReport, name: str) -> SetMargin:
    values = [mean_score(report, [name], "compared") for report in (first, second)]
    if name not in first.outcomes or name not in second.outcomes:
        return SetMargin(*values, 0, None, None)
    pair = paired_contributions(first, second, name)
    draws = _resampled(pair[0] - pair[1], (1.0, -1.0), name, "margin")
    return SetMargin(*values, len(pair[0]), difference(*pair, name).p, draws)


def _resampled(values: np.ndarray, more: tuple[float, float], *path: str) -> np.ndarray:
    rows = np.append(values, more)[:, None]
    return resampled_sums(rows, generator(*path), REPLICATES)[:, 0] / len(rows)
