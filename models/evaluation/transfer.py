"""What a stream did to each dataset, step by step: forgetting, backward and forward transfer, the stability gap.

Forgetting after Chaudhry et al. 2018 (arXiv 1801.10112), transfer after Lopez-Paz & Ranzato 2017 (arXiv 1706.08840),
the stability gap after De Lange et al. 2023 (arXiv 2205.13452). There every task is a dataset that is shown once; here
a dataset may be shown in pieces over many steps, so each definition says what it takes as the moment of learning. The
start is the pretrained model, which knows something of the datasets already, not a random one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from data_catalog.refs import Spec
from models.evaluation.record import ExperimentRecord, RecipeRecord, StepRecord
from models.evaluation.scores import EvalReport, primary


@dataclass(frozen=True)
class History:
    """The step x dataset matrix of one recipe; row 0 is the model before the first update (step -1)."""

    steps: tuple[int, ...]
    datasets: tuple[str, ...]
    values: np.ndarray  # float64 [steps, datasets]: what enters the summaries
    shown: np.ndarray  # bool [steps, datasets]: whether the stream showed the dataset since the row before


class StepTransfer(Spec):
    """What had come of the datasets after one step; null where no dataset is in the position that is asked about."""

    step: int
    forgetting: float  # mean over all sets: best score so far, the one at the start included, minus the one now
    gain: float | None  # mean over sets shown in this step: now minus before it
    backward: float | None  # mean over sets shown earlier, not now: now minus straight after they were last shown
    forward: float | None  # mean over sets shown later only: now minus at the start


class StabilityGap(Spec):
    """How a dataset fared inside one update, which its scores before and after do not show."""

    step: int
    dataset: str
    before: float  # after the step before
    lowest: float  # of the scores inside
    iteration: int  # where it was first that low
    after: float  # of the weights that the step deploys
    gap: float  # how far the lowest lies below both before and after, at least 0: what was lost for a while only


def history_of(record: ExperimentRecord, recipe: RecipeRecord) -> History:
    """The scores of `recipe` after every scored step on all sets of the summaries."""
    steps = (-1, *(step.step for step in recipe.steps))
    reports = (record.zero_shot, *(step.scores for step in recipe.steps))
    since = [record.stream[before + 1 : step + 1] for before, step in pairwise(steps)]
    shown = [[]] + [[name for part in parts for name in part.datasets] for parts in since]
    return history(steps, record.datasets, reports, shown)


def history(
    steps: Sequence[int], datasets: Sequence[str], reports: Sequence[EvalReport], shown: Sequence[Sequence[str]]
) -> History:
    """The matrix of `reports`, one per step; raises ValueError where one lacks a dataset."""
    values = [primary(report) for report in reports]
    for step, scored in zip(steps, values, strict=True):
        if missing := sorted(set(datasets) - set(scored)):
            raise ValueError(f"step {step} was not scored on {', '.join(missing)}; evaluate its checkpoint on them")
    return History(
        steps=tuple(steps),
        datasets=tuple(datasets),
        values=np.array([[scored[name] for name in datasets] for scored in values]),
        shown=np.array([[name in some for name in datasets] for some in shown]),
    )


def forgetting(history: History) -> np.ndarray:
    """Best score up to each step, the start included, minus the score there: float64 [steps, datasets], at least 0."""
    return np.maximum.accumulate(history.values, axis=0) - history.values


def backward_transfer(history: History) -> np.ndarray:
    """Score at each step minus that straight after the dataset was last shown: [steps, datasets].

    NaN where the dataset is shown in that step or has not been shown yet. Negative: it was forgotten since.
    """
    learned = np.full(len(history.datasets), np.nan)
    result = np.full(history.values.shape, np.nan)
    for row, (values, shown) in enumerate(zip(history.values, history.shown, strict=True)):
        result[row] = np.where(shown, np.nan, values - learned)
        learned = np.where(shown, values, learned)
    return result


def forward_transfer(history: History) -> np.ndarray:
    """Score at each step minus that at the start, of datasets the stream shows later only: [steps, datasets], else NaN.

    Sets that are never shown have no moment of learning to come and are NaN too: for them see the retention.
    """
    seen = np.logical_or.accumulate(history.shown, axis=0)
    coming = history.shown.any(0) & ~seen
    return np.where(coming, history.values - history.values[0], np.nan)


def gain(history: History) -> np.ndarray:
    """Score at each step minus that at the row before, of datasets shown since: [steps, datasets], else NaN."""
    change = np.diff(history.values, axis=0, prepend=history.values[:1])
    return np.where(history.shown, change, np.nan)


def step_transfers(history: History) -> tuple[StepTransfer, ...]:
    """The means over datasets of all four, for every row but the start."""
    tables = [forgetting(history), gain(history), backward_transfer(history), forward_transfer(history)]
    names = ("forgetting", "gain", "backward", "forward")
    return tuple(
        StepTransfer(step=step, **{name: _mean(table[row]) for name, table in zip(names, tables, strict=True)})
        for row, step in enumerate(history.steps)
        if row
    )


def stability_gaps(record: ExperimentRecord, recipe: RecipeRecord) -> tuple[StabilityGap, ...]:
    """The gap of every dataset in every step that was scored inside, after it and after the step before.

    Without a score before, what a step has yet to learn would look like something lost.
    """
    before = {-1: record.zero_shot} | {step.step: step.scores for step in recipe.steps}
    whole = [step for step in recipe.steps if step.inside and step.step - 1 in before]
    return tuple(gap for step in whole for gap in _gaps(before[step.step - 1], step))


def _gaps(before: EvalReport, step: StepRecord) -> list[StabilityGap]:
    inside = [(point.iteration, primary(point.scores)) for point in step.inside]
    earlier, after = primary(before), primary(step.scores)
    names = [name for name in inside[0][1] if name in after and name in earlier]
    return [_gap(step.step, name, earlier[name], [(i, scored[name]) for i, scored in inside], after[name])
            for name in names]  # fmt: skip


def _gap(step: int, dataset: str, before: float, inside: Sequence[tuple[int, float]], after: float) -> StabilityGap:
    iteration, lowest = min(inside, key=lambda point: (point[1], point[0]))
    return StabilityGap(
        step=step,
        dataset=dataset,
        before=before,
        lowest=lowest,
        iteration=iteration,
        after=after,
        gap=max(0.0, min(before, after) - lowest),
    )


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
