"""The intervals of all summaries of an experiment, by recipe and step."""

from typing import NamedTuple

from models.evaluation.record import ZERO_SHOT, ExperimentRecord
from models.evaluation.scores import EvalReport
from models.evaluation.summaries import BENCHMARK, Summary, benchmark_summaries

Ends = tuple[float, float]  # low, high
START = (ZERO_SHOT, -1)  # of the weights before the first update


class Intervals(NamedTuple):
    """Where 95 % of resamplings of the images would put each summary; None where too little is known to resample."""

    knowledge_accumulation: Ends | None
    zero_shot_retention: Ends | None
    geometric_mean: Ends | None


Known = dict[tuple[str, int], Intervals]  # by recipe and step


def all_intervals(record: ExperimentRecord) -> Known:
    """The intervals of every step that was scored, and of START. Raises MissingArtifact for outcomes that have gone."""
    scored = {START: record.zero_shot}
    scored |= {(recipe.name, step.step): step.scores for recipe in record.recipes for step in recipe.steps}
    return {key: _intervals(record, report) for key, report in scored.items()}


def is_known(known: Known) -> bool:
    """Whether there is any interval to draw."""
    return any(ends is not None for intervals in known.values() for ends in intervals)


def is_whole(known: Known) -> bool:
    """Whether all intervals are known, as bands over the steps need."""
    return all(ends is not None for intervals in known.values() for ends in intervals)


def _intervals(record: ExperimentRecord, report: EvalReport) -> Intervals:
    found = benchmark_summaries(report, record.adaptation, record.retention, record.weights)
    return Intervals(**dict(zip(BENCHMARK, map(_ends, found), strict=True)))


def _ends(summary: Summary) -> Ends | None:
    return None if summary.low is None or summary.high is None else (summary.low, summary.high)
