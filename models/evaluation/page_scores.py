"""The sections of a report on what was learned and what was kept."""

from collections.abc import Sequence
from html import escape

from models.evaluation import figures, figures_trajectory
from models.evaluation.page_parts import SHOWN_ROWS, Cell, Section, figure, folded, note, table, with_interval
from models.evaluation.record import ExperimentRecord, RecipeRecord
from models.evaluation.report import (
    Joint,
    Published,
    best_recipe,
    forgetting,
    group_summaries_of,
    merge_rows,
    score_rows,
)
from models.evaluation.scores import EvalReport, evaluation_rows, primary
from models.evaluation.summaries import BENCHMARK
from models.evaluation.summary_intervals import START, Known, all_intervals, is_known, is_whole
from models.evaluation.transfer import StabilityGap, history_of, stability_gaps, step_transfers

MOST_NAMED = 5  # of the sets that a baseline lacks
SUMMARY = ("recipe", "step", "KA", "ZS", "GM")


def learned_and_kept(record: ExperimentRecord, joint: Joint | None, published: Sequence[Published] = ()) -> Section:
    """The last summaries beside those that others have published, the way there, and the user's own groups."""
    known = all_intervals(record)
    drawn = [_trajectory(record, known, joint, published), _over_steps(record, known, joint)]
    ends = _final_scores(record, known, joint, published)
    return Section("Learned and kept", "".join([ends, *drawn, _groups(record)]))


def merge_tradeoff(record: ExperimentRecord) -> Section:
    """The last merge with other weights."""
    rows = [list(row.values()) for row in merge_rows(record)]
    spoken = f"Line chart of retention against accumulation for {len(rows)} weights of the last merge; table below."
    caption = (
        "The last merge, tried with other weights on the past (the labels): 0 is the last expert alone, "
        "1 the running merge before it. More past means less of the last step."
    )
    numbers = table(["recipe", "weight on the past", "KA", "ZS", "GM"], rows, "The last merge by weight")
    drawn = figure(figures.merge_tradeoff(record), spoken, caption, numbers, is_open=True)
    return Section("What the merge weight trades", drawn)


def every_dataset(record: ExperimentRecord) -> Section:
    """Scores of every dataset over the steps, a heat map per recipe, and all metrics at the end."""
    maps = "".join(_heat_map(record, recipe) for recipe in record.recipes)
    return Section("Every dataset, step by step", maps + _all_metrics(record))


def whole_sets(record: ExperimentRecord) -> Section | None:
    """Scores on whole sets before the first and after the last step, where steps are scored on subsets."""
    ends = [("zero-shot", record.zero_shot, record.zero_shot_full)]
    ends += [(recipe.name, recipe.steps[-1].scores, recipe.steps[-1].full) for recipe in record.recipes]
    rows: list[list[Cell]] = []
    for name, part, whole in ends:
        if whole is not None:
            subset, full = primary(part), primary(whole)
            rows += [[name, dataset, role, subset[dataset], full.get(dataset)] for dataset, role in roles(record)]
    if not rows:
        return None
    text = note("After each step the sets are scored on a fixed subset of their images; here on all of them.")
    numbers = table(["recipe", "dataset", "role", "on the subset", "on all images"], rows, "Scores on whole sets")
    return Section("On whole sets", text + folded("Data table", numbers, is_open=len(rows) <= SHOWN_ROWS))


def clean_images(record: ExperimentRecord) -> Section | None:
    """Scores after the last step beside those on images without a twin in training; None if none were looked for."""
    last = {"zero-shot": record.zero_shot} | {recipe.name: recipe.steps[-1].scores for recipe in record.recipes}
    scored = {name: [row for row in evaluation_rows(report) if "clean" in row] for name, report in last.items()}
    names = ("dataset", "metric", "samples", "value", "clean_samples", "clean")
    rows = [[name, *(row[key] for key in names)] for name, found in scored.items() for row in found]
    if not rows:
        return None
    columns = ["recipe", "dataset", "metric", "images", "score", "clean images", "score on them"]
    text = note("Clean: no image of the stream or the pretraining pool shows the same picture.")
    numbers = table(columns, rows, "Scores on all and on clean images")
    return Section("On clean images alone", text + folded("Data table", numbers, is_open=len(rows) <= SHOWN_ROWS))


def forgotten(record: ExperimentRecord) -> Section:
    """What every recipe lost of what it once had."""
    lost = [forgetting(record, recipe) for recipe in record.recipes]
    rows = [[name, role, *(scores[name] for scores in lost)] for name, role in roles(record)]
    columns = ["dataset", "role", *(recipe.name for recipe in record.recipes)]
    means = ", ".join(
        f"{recipe.name} {sum(scores.values()) / len(scores):.3f}"
        for recipe, scores in zip(record.recipes, lost, strict=True)
    )
    spoken = f"Heat map of what each recipe forgot on {len(rows)} datasets; mean per recipe: {means}."
    caption = f"Best score so far minus the score after the last step; 0 is nothing forgotten. Mean: {means}."
    numbers = table(columns, rows, "Forgetting per dataset and recipe")
    return Section(
        "Forgotten and passed on", figure(figures.forgotten(record), spoken, caption, numbers) + _transfers(record)
    )


def _transfers(record: ExperimentRecord) -> str:
    rows = [
        [recipe.name, *step.model_dump().values()]
        for recipe in record.recipes
        for step in step_transfers(history_of(record, recipe))
    ]
    spoken = f"Line charts of forgetting, backward and forward transfer by step for {len(record.recipes)} recipes."
    caption = (
        "Forgetting: below the best score so far, mean over all sets. Backward transfer: since a set was last shown "
        "(negative: lost). Forward transfer: since the start, of sets the stream shows later only."
    )
    columns = ["recipe", "step", "forgetting", "gain of sets shown", "backward transfer", "forward transfer"]
    return figure(figures.transfers(record), spoken, caption, table(columns, rows, "Transfer per step"))


def inside_steps(record: ExperimentRecord) -> Section | None:
    """The stability gap; None where nothing was scored inside steps."""
    found = {recipe.name: stability_gaps(record, recipe) for recipe in record.recipes}
    rows = [
        _gap_row(record, name, [gap for gap in gaps if gap.step == step])
        for name, gaps in found.items()
        for step in dict.fromkeys(gap.step for gap in gaps)
    ]
    if not rows:
        return None
    spoken = f"Line charts of both means inside the steps of {len(found)} recipes; how far they dip is in the table."
    caption = (
        "Scored in the middle of updates too, before any merge. The stability gap of a set: how far its score "
        "falls inside a step below the lower of where it began and where it ended; the table has means over sets."
    )
    columns = ["recipe", "step", "gap on adaptation sets", "gap on held-out sets", "widest gap", "of"]
    drawn = figure(figures.inside_steps(record), spoken, caption, table(columns, rows, "Stability gap per step"))
    return Section("Inside steps", drawn)


def _gap_row(record: ExperimentRecord, recipe: str, gaps: list[StabilityGap]) -> list[Cell]:
    """The gaps of one step: means by role, and the widest."""
    widest = max(gaps, key=lambda gap: gap.gap)
    sides = [[gap.gap for gap in gaps if gap.dataset in names] for names in (record.adaptation, record.retention)]
    means = [sum(side) / len(side) if side else None for side in sides]
    return [recipe, gaps[0].step, *means, widest.gap, widest.dataset]


def roles(record: ExperimentRecord) -> list[tuple[str, str]]:
    """Every dataset with what it is there for."""
    return [(name, "adaptation") for name in record.adaptation] + [(name, "retention") for name in record.retention]


def _final_scores(record: ExperimentRecord, known: Known, joint: Joint | None, published: Sequence[Published]) -> str:
    ends = [(START[0], record.zero_shot_summary)]
    ends += [(recipe.name, recipe.steps[-1].summary) for recipe in record.recipes]
    rows: list[list[Cell]] = []
    for name, summary in ends:
        intervals = known[name, summary.step]
        values = (with_interval(getattr(summary, key), getattr(intervals, key)) for key in BENCHMARK)
        rows.append([name, "start" if summary.step == -1 else summary.step, *values])
    if joint and joint.name not in {recipe.name for recipe in record.recipes}:
        rows.append([joint.name, "joint", *(f"{getattr(joint.summary, key):.3f}" for key in BENCHMARK)])
    rows += [published_row(row) for row in published if row.summary]
    words = (
        f"KA, knowledge accumulation: mean score over the {len(record.adaptation)} sets of the stream. "
        f"ZS, zero-shot retention: mean over the {len(record.retention)} held-out sets. GM: their geometric mean. "
        "Scores are top-1 accuracy, for retrieval recall@5, from 0 to 1."
    )
    words += " In brackets: 95 % of bootstrap samples of the images." if is_known(known) else ""
    words += f" Weights of sets in the means: {_weights(record)}." if record.weights else ""
    return table(SUMMARY, rows, "Summaries after the last step") + note(words) + left_out(published)


def published_row(row: Published) -> list[Cell]:
    """Name, where it comes from, and the three summaries of a baseline."""
    ends = ((s.value, None if s.low is None else (s.low, s.high)) for s in row.summaries)
    return [row.name, "published", *(with_interval(*pair) for pair in ends)]


def left_out(published: Sequence[Published]) -> str:
    """A note on each baseline that lacks sets: its means would be those of other sets."""
    return "".join(map(note, map(missing_sets, (row for row in published if row.missing))))


def missing_sets(row: Published) -> str:
    """Why a baseline does not stand beside the recipes."""
    named = ", ".join(row.missing[:MOST_NAMED]) + (" and others" if len(row.missing) > MOST_NAMED else "")
    return f"{row.name} is not shown: it has no scores of {len(row.missing)} of the sets here ({named})."


def _weights(record: ExperimentRecord) -> str:
    return ", ".join(f"{name} {weight:g}" for name, weight in record.weights.items()) + ", all others 1"


def _trajectory(record: ExperimentRecord, known: Known, joint: Joint | None, published: Sequence[Published]) -> str:
    ends = "; ".join(
        f"{recipe.name} ends at {recipe.steps[-1].summary.knowledge_accumulation:.3f}, "
        f"{recipe.steps[-1].summary.zero_shot_retention:.3f}"
        for recipe in record.recipes
    )
    start = record.zero_shot_summary
    spoken = (
        f"Line chart of knowledge accumulation against zero-shot retention, from the zero-shot point "
        f"{start.knowledge_accumulation:.3f}, {start.zero_shot_retention:.3f}: {ends}. "
        f"Best: {best_recipe(record).name}."
    )
    caption = "Further right is more learned from the stream, further up is more kept of what was known before."
    if joint:
        spoken += (
            f" Joint training: {joint.summary.knowledge_accumulation:.3f}, {joint.summary.zero_shot_retention:.3f}."
        )
        caption += " Dashed: joint training, on everything at once."
    if shown := [row for row in published if row.summary]:
        spoken += f" Published: {', '.join(row.name for row in shown)}, values in the table above."
        caption += " Grey diamonds: published by others."
    rows = [list(row.values()) for row in score_rows(record)]
    rows = [[name, "start" if step == -1 else step, *values] for name, step, *values in rows]
    numbers = table(SUMMARY, rows, "Summaries per recipe and step")
    drawn = figures_trajectory.trajectory(record, known, joint, published)
    return figure(drawn, spoken, caption, numbers, is_open=len(rows) <= SHOWN_ROWS)


def _over_steps(record: ExperimentRecord, known: Known, joint: Joint | None) -> str:
    names = ", ".join(recipe.name for recipe in record.recipes)
    spoken = f"Line charts of accumulation, retention and their geometric mean by step for {names}; table below."
    caption = "Bands: 95 % of bootstrap samples of the images." if is_whole(known) else ""
    columns = ["recipe", "step", *(f"{name} {end}" for name in SUMMARY[2:] for end in ("low", "high"))]
    rows: list[list[Cell]] = []
    for recipe in record.recipes:
        for step in recipe.steps:
            ends = [pair or (None, None) for pair in known[recipe.name, step.step]]
            rows.append([recipe.name, step.step, *(end for pair in ends for end in pair)])
    return figure(figures.over_steps(record, known, joint), spoken, caption, table(columns, rows, "Intervals per step"))


def _groups(record: ExperimentRecord) -> str:
    if not record.groups:
        return ""
    rows = [
        [name, *(with_interval(s.value, None if s.low is None else (s.low, s.high)) for s in found)]
        for name, found in group_summaries_of(record).items()
    ]
    members = "; ".join(f"{group}: {', '.join(names)}" for group, names in record.groups.items())
    return "<h3>Groups of sets</h3>" + table(["recipe", *record.groups], rows, "Means of groups") + note(members)


def _heat_map(record: ExperimentRecord, recipe: RecipeRecord) -> str:
    reports = [primary(record.zero_shot), *(primary(step.scores) for step in recipe.steps)]
    columns = ["dataset", "role", "start", *(f"step {step.step}" for step in recipe.steps)]
    rows = [[name, role, *(scores[name] for scores in reports)] for name, role in roles(record)]
    spoken = (
        f"Heat map of the scores of {len(rows)} datasets over {len(recipe.steps)} steps of {recipe.name}; table below."
    )
    drawn = figures.heat_map(record, recipe)
    numbers = table(columns, rows, f"Scores of {recipe.name}")
    return f"<h3>{escape(recipe.name)}</h3>" + figure(drawn, spoken, "", numbers)


def _all_metrics(record: ExperimentRecord) -> str:
    ends: list[tuple[str, EvalReport]] = [("zero-shot", record.zero_shot)]
    ends += [(recipe.name, recipe.steps[-1].scores) for recipe in record.recipes]
    rows = [
        [name, score.dataset, score.metric.replace("_", " "), score.samples, score.value, score.low, score.high]
        for name, report in ends
        for score in report.scores
    ]
    columns = ["recipe", "dataset", "metric", "images", "score", "low", "high"]
    return folded("All metrics before the first and after the last step", table(columns, rows, "All metrics"))
