"""From the records of a run to what people read: the page, the tables in the Prefect UI, the figures in MLflow."""

import pyarrow.compute as pc
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from data_catalog import catalog, store
from data_catalog.catalog import TrainedStep
from data_catalog.exclusions import Exclusions
from data_catalog.stream import StepPlan, StreamPlan
from models.checkpoints import CheckpointRef
from models.evaluation import page
from models.evaluation.record import (
    ExperimentRecord,
    InsidePoint,
    RecipeRecord,
    StepRecord,
    StreamReport,
    UnscoredStep,
    run_name,
    store_record,
)
from models.evaluation.report import markdown
from models.evaluation.report_tables import tables
from models.evaluation.scores import EvalReport, StepScores
from models.ledger import ledger
from models.merging.trials import SearchReport
from models.prices import StepCost
from models.train import Expert
from tasks.caching import uncached
from tasks.tracking import log_report


def unscored_step(data: StepPlan, expert: Expert, deployed: CheckpointRef, cost: StepCost, share: float, merged: int,
                  inside: tuple[InsidePoint, ...] = ()) -> UnscoredStep:  # fmt: skip
    """Everything worth knowing about one finished step but its scores; its share of the budget is so many MAFs.

    `merged`: checkpoints that entered merges after it; `inside`: what it scored in the middle.
    """
    rows = ledger(cost, data.iterations, expert.iterations, expert.passes, merged)
    rates = store.read_table(expert.curves, ["samples_per_second"])["samples_per_second"]
    return UnscoredStep(
        step=data.step,
        expert=expert.checkpoint.digest,
        deployed=deployed.digest,
        step_plan=data.digest,
        curves=expert.curves,
        iterations=expert.iterations,
        draws=data.samples,
        mafs_planned=share,
        mafs_used=sum(row.used_mafs for row in rows),
        ledger=rows,
        seconds=pc.sum(pc.divide(float(data.batch_size), rates)).as_py(),
        inside=inside,
    )


def step_record(
    done: UnscoredStep, scores: EvalReport, summary: StepScores, full: EvalReport | None = None
) -> StepRecord:
    """A finished step with what came of it; `full`: on whole sets, where `scores` are on subsets."""
    return StepRecord(**dict(done), scores=scores, summary=summary, full=full)


@uncached(label="record stream in the catalog")
def record_stream(experiment: str, seed: int, plan: StreamPlan, recipes: list[RecipeRecord],
                  exclusions: list[Exclusions]) -> None:  # fmt: skip
    """Enter which samples each step of each recipe drew, and the checkpoint that came of it."""
    steps = [
        TrainedStep(
            recipe=recipe.name, step=step.step, step_plan=step.step_plan, checkpoint=step.expert, deployed=step.deployed
        )
        for recipe in recipes
        for step in recipe.trained
    ]
    catalog.record_stream(run_name(experiment, seed), plan, steps, exclusions)


@uncached(label="report")
def publish_report(record: ExperimentRecord) -> StreamReport:
    """Store the record and show it everywhere: page, Prefect artifacts, MLflow."""
    report = store_record(record)
    name = run_name(record.name, record.seed)
    written = page.write(record)
    create_markdown_artifact(markdown(record), key=f"{name}-report", description=f"Report: {written}")
    for table, (rows, description) in tables(record).items():
        create_table_artifact(rows, key=f"{name}-{table}", description=description)
    log_report(record, written)
    return report


@uncached(label="report of the search")
def publish_search(report: SearchReport) -> None:
    """Show the trials of a search over merges as a Prefect artifact."""
    key = f"{report.experiment}-merges-{report.recipe}".lower().replace("_", "-")
    description = f"Merges tried at step {report.step} of {report.recipe}, on validation images"
    create_table_artifact(report.rows(), key=key, description=description)
