"""What an experiment came to, in words and tables."""

from models.evaluation.record import ExperimentRecord, RecipeRecord
from models.evaluation.scores import primary

NOTICEABLE = 0.01  # smaller changes of a summary are called none in the verdict


def best_recipe(record: ExperimentRecord) -> RecipeRecord:
    """The recipe with the highest geometric mean after its last step; the first of equals."""
    return max(record.recipes, key=lambda recipe: recipe.steps[-1].summary.geometric_mean)


def forgetting(record: ExperimentRecord, recipe: RecipeRecord) -> dict[str, float]:
    """Dataset -> its best score so far, the zero-shot one included, minus its score after the last step."""
    history = [primary(record.zero_shot)] + [primary(step.scores) for step in recipe.steps]
    datasets = (*record.adaptation, *record.retention)
    return {name: max(scores[name] for scores in history) - history[-1][name] for name in datasets}


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
