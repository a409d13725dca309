"""The tables of a report for places that show rows of named values, such as the artifacts of a run."""

from models.evaluation.record import ExperimentRecord
from models.evaluation.report import forgetting, score_rows
from models.evaluation.scores import primary
from models.evaluation.transfer import history_of, step_transfers

Row = dict[str, str | int | float | None]


def tables(record: ExperimentRecord) -> dict[str, tuple[list[Row], str]]:
    """Name -> rows of one shape and what they are."""
    return {
        "scores": (score_rows(record), "Scores after every step"),
        "datasets": (dataset_rows(record), "Every dataset: at the start, and at the end of every recipe"),
        "forgetting": (forgetting_rows(record), "Best score so far minus that after the last step"),
        "transfer": (transfer_rows(record), "Forgetting, gain, backward and forward transfer after every step"),
        "budget": (budget_rows(record), "Compute planned and used by every step, in MAFs"),
        "stages": (stage_rows(record), "Stages executed and re-used, by kind"),
    }


def dataset_rows(record: ExperimentRecord) -> list[Row]:
    """The score of every dataset under the first weights and after the last step of every recipe."""
    ends = {"zero-shot": primary(record.zero_shot)}
    ends |= {recipe.name: primary(recipe.steps[-1].scores) for recipe in record.recipes}
    return [_row(record, name) | {end: scores[name] for end, scores in ends.items()} for name in record.datasets]


def forgetting_rows(record: ExperimentRecord) -> list[Row]:
    """What every recipe had lost of every dataset after its last step."""
    lost = {recipe.name: forgetting(record, recipe) for recipe in record.recipes}
    return [_row(record, name) | {end: scores[name] for end, scores in lost.items()} for name in record.datasets]


def transfer_rows(record: ExperimentRecord) -> list[Row]:
    """One row per recipe and scored step."""
    return [
        {"recipe": recipe.name} | step.model_dump()
        for recipe in record.recipes
        for step in step_transfers(history_of(record, recipe))
    ]


def budget_rows(record: ExperimentRecord) -> list[Row]:
    """One row per recipe and step."""
    names = {"step", "iterations", "mafs_planned", "mafs_used", "seconds"}
    return [
        {"recipe": recipe.name} | step.model_dump(include=names) for recipe in record.recipes for step in recipe.trained
    ]


def stage_rows(record: ExperimentRecord) -> list[Row]:
    """One row per kind of stage."""
    kinds = {name: [s for s in record.stages if s.stage == name] for name in (s.stage for s in record.stages)}
    return [
        {"stage": name, "executed": sum(not s.reused for s in group), "re-used": sum(s.reused for s in group),
         "seconds": round(sum(s.seconds for s in group), 1)}
        for name, group in kinds.items()
    ]  # fmt: skip


def _row(record: ExperimentRecord, name: str) -> Row:
    return {"dataset": name, "role": "adaptation" if name in record.adaptation else "retention"}
