"""What one checkpoint scored, and the summaries of it: what was learned, what was kept (reference 9.2)."""

import math
from collections.abc import Mapping, Sequence

from pydantic import Field

from data_catalog.refs import Spec

CLEAN = "_clean"  # ends the name of a metric over the images without a duplicate among the training images
SUMMARY_METRICS = ("accuracy_top1", "recall_at_5")  # one of them per dataset enters the summaries (reference 9.2)


class Score(Spec):
    """One metric of one checkpoint on one dataset."""

    dataset: str
    metric: str
    value: float = Field(ge=0, le=1)
    samples: int = Field(ge=1)
    low: float | None = None  # 95 % of bootstrap samples lie between low and high; null: not asked for
    high: float | None = None


class EvalReport(Spec):
    """The scores of one checkpoint."""

    checkpoint: str  # digest
    scores: tuple[Score, ...]
    outcomes: dict[str, str] = Field(default_factory=dict)  # dataset -> digest of what became of each of its images


class StepScores(Spec):
    """The summary of one step: what was learned, what was kept, and both in one number."""

    step: int = Field(ge=-1)  # -1: before the first update
    knowledge_accumulation: float = Field(ge=0, le=1)
    zero_shot_retention: float = Field(ge=0, le=1)
    geometric_mean: float = Field(ge=0, le=1)


def primary(report: EvalReport) -> dict[str, float]:
    """Dataset -> the one value that enters the summaries: top-1 accuracy or recall@5."""
    return {score.dataset: score.value for score in report.scores if score.metric in SUMMARY_METRICS}


def clean_metric(metric: str) -> str:
    """The name of `metric` over the clean images alone; it never enters the summaries."""
    return metric + CLEAN


def evaluation_rows(report: EvalReport) -> list[dict[str, str | int | float | None]]:
    """One row per dataset and metric, with the clean value beside the full one if any is known."""
    clean = {(score.dataset, score.metric): score for score in report.scores if score.metric.endswith(CLEAN)}
    rows = []
    for score in (score for score in report.scores if not score.metric.endswith(CLEAN)):
        other = clean.get((score.dataset, clean_metric(score.metric)))
        known = {"clean": other and other.value, "clean_samples": other and other.samples} if clean else {}
        rows.append(score.model_dump() | known)
    return rows


def knowledge_accumulation(
    report: EvalReport, adaptation: Sequence[str], weights: Mapping[str, float] | None = None
) -> float:
    """Mean score over the sets that the stream adapts to, seen or not yet seen; unweighted by their size."""
    return mean_score(report, adaptation, "adaptation", weights)


def zero_shot_retention(
    report: EvalReport, retention: Sequence[str], weights: Mapping[str, float] | None = None
) -> float:
    """Mean score over the sets that the stream never shows; unweighted by their size."""
    return mean_score(report, retention, "retention", weights)


def geometric_mean(knowledge: float, retention: float) -> float:
    """Both summaries in one number, which is low when either is."""
    return math.sqrt(knowledge * retention)


def summarise(
    step: int,
    report: EvalReport,
    adaptation: Sequence[str],
    retention: Sequence[str],
    weights: Mapping[str, float] | None = None,
) -> StepScores:
    """The summary of `report`; step -1 stands for the weights before the first update.

    `weights`: dataset -> how much it counts in its mean, 1 where it is not named, as all count in the benchmark.
    """
    knowledge = knowledge_accumulation(report, adaptation, weights)
    kept = zero_shot_retention(report, retention, weights)
    return StepScores(
        step=step,
        knowledge_accumulation=knowledge,
        zero_shot_retention=kept,
        geometric_mean=geometric_mean(knowledge, kept),
    )


def mean_score(
    report: EvalReport, datasets: Sequence[str], role: str, weights: Mapping[str, float] | None = None
) -> float:
    """Mean of the values that enter the summaries; `role` names the datasets in the error for those not scored."""
    if not datasets:
        raise ValueError(f"no {role} sets named: their mean is undefined; name at least one in the configuration")
    values = primary(report)
    if missing := sorted(set(datasets) - set(values)):
        raise ValueError(
            f"the report of {report.checkpoint[:19]} lacks the {role} sets {', '.join(missing)}; "
            f"it holds {', '.join(sorted(values)) or 'none'}: evaluate the missing ones"
        )
    weight = dataset_weights(datasets, weights)
    return math.fsum(weight[name] * values[name] for name in datasets) / math.fsum(weight.values())


def dataset_weights(datasets: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """How much each of `datasets` counts in their mean.

    Raises ValueError for negative weights, where none counts, and for a set that is named twice.
    Weights of other datasets are passed over, since one table of weights serves several groups.
    """
    if below := {name: weight for name, weight in (weights or {}).items() if not 0 <= weight < math.inf}:
        raise ValueError(f"weights of datasets are numbers from 0 on, not {below}; correct `weights`")
    used = {name: float((weights or {}).get(name, 1.0)) for name in datasets}
    if len(used) < len(datasets):
        raise ValueError(
            f"a mean over {', '.join(datasets)} names a set twice: name each once; `weights` tell how much"
        )
    if not any(used.values()):
        raise ValueError(f"all of {', '.join(datasets)} have weight 0: their mean is undefined; give one a weight")
    return used
