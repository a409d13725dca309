"""What an experiment came to, in words and tables."""

from collections.abc import Sequence
from typing import NamedTuple

from models.evaluation import transfer
from models.evaluation.published import Baseline, baseline_summaries, check_beside
from models.evaluation.record import ExperimentRecord, RecipeRecord, StepRecord
from models.evaluation.scores import StepScores, mean_score, primary, summarise
from models.evaluation.summaries import Summary, group_summaries

JOINT = "joint"  # a recipe of this name is a bound that others are held against: everything at once
NOTICEABLE = 0.01  # smaller changes of a summary are called none in the verdict


def best_recipe(record: ExperimentRecord) -> RecipeRecord:
    """The recipe with the highest geometric mean after its last step; the first of equals."""
    return max(record.recipes, key=lambda recipe: recipe.steps[-1].summary.geometric_mean)


class Published(NamedTuple):
    """What others have published of one model, as it stands beside an experiment."""

    name: str
    summaries: tuple[Summary, ...] = ()  # accumulation, retention and their geometric mean, with intervals
    summary: StepScores | None = None  # the same three, of the weights before any step; None: sets are missing
    missing: tuple[str, ...] = ()  # sets of the experiment that were not scored


class Joint(NamedTuple):
    """What training on everything at once came to."""

    name: str
    summary: StepScores


def published(record: ExperimentRecord, baselines: Sequence[Baseline]) -> list[Published]:
    """Each baseline over the sets of `record`; without a summary where it lacks any of them.

    Raises ValueError for baselines that cannot be told apart from others or from recipes, or not be compared.
    """
    check_beside(record, baselines)
    check_beside(record, baselines)
    return [_published(record, baseline) for baseline in baselines]


def joint_of(record: ExperimentRecord, other: ExperimentRecord | None = None) -> Joint | None:
    """The bound to hold `record` against: what `other` came to, else the record's own recipe called joint, if any.

    Raises ValueError if `other` was scored on other datasets, whose means say nothing about these.
    """
    if other is None:
        own = [recipe for recipe in record.recipes if recipe.name == JOINT]
        return Joint(JOINT, own[0].steps[-1].summary) if own else None
    check_comparable(record, other)
    return Joint(other.name, best_recipe(other).steps[-1].summary)


def check_comparable(record: ExperimentRecord, other: ExperimentRecord) -> None:
    """Raise ValueError unless the summaries of both are means of the same sets under the same weights."""
    for role in ("adaptation", "retention"):
        if {*getattr(other, role)} != {*getattr(record, role)}:
            raise ValueError(
                f"{other.name} has the {role} sets {', '.join(sorted(getattr(other, role)))}, but {record.name} has "
                f"{', '.join(sorted(getattr(record, role)))}: the means of different sets cannot be compared"
            )
    if other.weights != record.weights:
        raise ValueError(
            f"{other.name} weighs its sets as {other.weights}, {record.name} as {record.weights}: run both with the "
            "same `evaluation.weights`"
        )


def group_summaries_of(record: ExperimentRecord) -> dict[str, tuple[Summary, ...]]:
    """The user's own groups of sets, of the zero-shot weights and of the last step of every recipe."""
    ends = {"zero-shot": record.zero_shot} | {recipe.name: recipe.steps[-1].scores for recipe in record.recipes}
    return {name: group_summaries(report, record.groups, record.weights) for name, report in ends.items()}


def summaries_inside(record: ExperimentRecord, recipe: RecipeRecord) -> list[dict[str, float | bool | None]]:
    """Both means before, inside and after every step: position in steps, adaptation, retention, whether a step's end.

    A mean is over those of its sets that were scored inside steps too; None if none was.
    """
    points = [(0.0, True, record.zero_shot)]
    for step in recipe.trained:
        points += [(step.step + p.iteration / step.iterations, False, p.scores) for p in step.inside]
        points += [(step.step + 1.0, True, step.scores)] if isinstance(step, StepRecord) else []
    common = set.intersection(*({*primary(report)} for _, _, report in points))
    roles = {role: [n for n in getattr(record, role) if n in common] for role in ("adaptation", "retention")}
    return [
        {"position": at, "is_end": is_end}
        | {role: mean_score(report, sets, role, record.weights) if sets else None for role, sets in roles.items()}
        for at, is_end, report in points
    ]


def forgetting(record: ExperimentRecord, recipe: RecipeRecord) -> dict[str, float]:
    """Dataset -> its best score so far, the zero-shot one included, minus its score after the last step."""
    history = transfer.history_of(record, recipe)
    return dict(zip(history.datasets, transfer.forgetting(history)[-1].tolist(), strict=True))


def verdict(record: ExperimentRecord) -> list[str]:
    """One plain sentence per recipe, and a last one that names the best."""
    best = best_recipe(record)
    reached = best.steps[-1].summary.geometric_mean
    return [f"{recipe.name} {_outcome(record, recipe)}." for recipe in record.recipes] + [
        f"Best balance of both: {best.name}, with a geometric mean of {reached:.3f} "
        f"(zero-shot: {record.zero_shot_summary.geometric_mean:.3f})."
    ]


def score_rows(record: ExperimentRecord) -> list[dict[str, str | int | float]]:
    """The summary table: the zero-shot row (step -1), then one row per recipe and step."""
    named = [("zero-shot", record.zero_shot_summary)]
    named += [(recipe.name, step.summary) for recipe in record.recipes for step in recipe.steps]
    return [{"recipe": name, **summary.model_dump()} for name, summary in named]


def merge_rows(record: ExperimentRecord) -> list[dict[str, str | float]]:
    """What the weight on the past trades in the last merge: one row per recipe and weight tried."""
    return [
        {"recipe": recipe.name, "past_weight": point.past_weight, **point.summary.model_dump(exclude={"step"})}
        for recipe in record.recipes
        for point in recipe.merge_points
    ]


def markdown(record: ExperimentRecord) -> str:
    """The verdict and the summary table, for places that show markdown."""
    lines = [f"# {record.name}", "", *(f"- {sentence}" for sentence in verdict(record)), ""]
    lines += [
        "| recipe | step | knowledge accumulation | zero-shot retention | geometric mean |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in score_rows(record):
        name, step, *values = row.values()
        lines.append(
            f"| {name} | {'start' if step < 0 else step} | " + " | ".join(f"{value:.3f}" for value in values) + " |"
        )
    return "\n".join(lines) + "\n"


def _published(record: ExperimentRecord, baseline: Baseline) -> Published:
    scored = primary(baseline.report)
    if missing := tuple(name for name in record.datasets if name not in scored):
        return Published(baseline.name, missing=missing)
    sets = record.adaptation, record.retention, record.weights
    return Published(
        baseline.name, baseline_summaries(baseline, *sets), summarise(-1, baseline.report, *sets)
    )  # fmt: skip


def _outcome(record: ExperimentRecord, recipe: RecipeRecord) -> str:
    before, after = record.zero_shot_summary, recipe.steps[-1].summary
    learned = _change(
        before.knowledge_accumulation,
        after.knowledge_accumulation,
        ("got worse on", "learned little of", "learned"),
        "the stream's datasets",
    )
    kept = _change(
        before.zero_shot_retention,
        after.zero_shot_retention,
        ("but forgot part of", "and kept", "and improved on"),
        "what it knew",
    )
    return f"{learned} {kept}"


def _change(before: float, after: float, verbs: tuple[str, str, str], what: str) -> str:
    """`verbs` for a summary that fell, stayed and rose."""
    verb = verbs[1] if abs(after - before) < NOTICEABLE else verbs[2 if after > before else 0]
    return f"{verb} {what} ({before:.3f} → {after:.3f})"
