"""Evaluations that run beside the next update, and the records of steps that are made of them."""

from collections.abc import Callable
from typing import NamedTuple

from prefect.futures import PrefectFuture

from data_catalog.stream import StepPlan
from flows.experiment import ExperimentConfig
from flows.preparing import Prepared
from models.checkpoints import CheckpointRef
from models.evaluation.record import InsidePoint, StepRecord, UnscoredStep
from models.evaluation.scores import EvalReport
from models.prices import StepCost
from models.train import Expert
from tasks.evaluate import evaluate_candidates, evaluate_checkpoint, evaluate_with_whole_sets
from tasks.report import step_record, unscored_step
from tasks.tracking import log_step

Reports = Callable[[], tuple[EvalReport, EvalReport | None]]  # waits for scores after steps, and on whole sets


class Asked(NamedTuple):
    """A finished step whose scores are being worked out."""

    data: StepPlan
    expert: Expert
    deployed: CheckpointRef
    merged: int  # checkpoints that entered merges after it
    reports: Reports | None  # none where the step is not scored
    inside: PrefectFuture[list[EvalReport]] | None


def asked(
    experiment: ExperimentConfig,
    name: str,
    prepared: Prepared,
    data: StepPlan,
    expert: Expert,
    deployed: CheckpointRef,
    merged: int,
) -> Asked:
    """Ask for all scores of a step of the recipe `name`."""
    steps, label = len(prepared.plan.steps), f"{name} step {data.step}"
    is_scored = experiment.evaluation.is_scored(data.step, steps)
    is_last = data.step == steps - 1
    inside = [snapshot.checkpoint for snapshot in expert.snapshots]
    return Asked(
        data,
        expert,
        deployed,
        merged,
        reports=reports_of(experiment, prepared, deployed, label, is_last) if is_scored else None,
        inside=evaluate_candidates.submit(inside, list(prepared.eval_sets), f"{label} inside") if inside else None,
    )


def reports_of(
    experiment: ExperimentConfig, prepared: Prepared, checkpoint: CheckpointRef, label: str, is_end: bool
) -> Reports:
    """`scores_of` a checkpoint; at an end of the stream also those on whole sets, in the same pass over the images."""
    if not (is_end and prepared.scored.whole):
        alone = scores_of(experiment, prepared, checkpoint, label)
        return lambda: (alone.result(), None)
    sets, whole = list(prepared.eval_sets), list(prepared.scored.whole)
    both = evaluate_with_whole_sets.submit(checkpoint, sets, whole, label, **_probing(experiment, prepared))
    return lambda: tuple(both.result())


def scores_of(
    experiment: ExperimentConfig, prepared: Prepared, checkpoint: CheckpointRef, label: str
) -> PrefectFuture[EvalReport]:
    """What a checkpoint scores on what is scored after steps, with linear probes if the experiment asks for them."""
    sets = list(prepared.eval_sets)
    return evaluate_checkpoint.submit(checkpoint, sets, label, **_probing(experiment, prepared))


def whole_scores_of(
    experiment: ExperimentConfig, prepared: Prepared, checkpoint: CheckpointRef, label: str
) -> PrefectFuture[EvalReport] | None:
    """As `scores_of`, on whole sets; None where what is scored after steps are whole sets."""
    if not (sets := list(prepared.scored.whole)):
        return None
    return evaluate_checkpoint.submit(checkpoint, sets, f"{label} on whole sets", **_probing(experiment, prepared))


def settle(
    experiment: ExperimentConfig, name: str, prepared: Prepared, cost: StepCost, waiting: Asked | None
) -> list[UnscoredStep]:
    """Wait for the scores of a step, track it and return its record; nothing before the first step."""
    if waiting is None:
        return []
    share = experiment.budget.share(cost, len(prepared.plan.steps))
    done = unscored_step(waiting.data, waiting.expert, waiting.deployed, cost, share, waiting.merged, _inside(waiting))
    if waiting.reports is not None:
        scores, whole = waiting.reports()
        summary = prepared.scored.means.summary(done.step, scores)
        done = step_record(done, scores, summary, whole)
    log_step(experiment.name, experiment.seed, name, done, experiment.recipes[name].model_dump_json())
    return [done]


def scored(records: list[UnscoredStep]) -> tuple[tuple[StepRecord, ...], tuple[UnscoredStep, ...]]:
    """The records of steps that were scored, and the others."""
    with_scores = tuple(record for record in records if isinstance(record, StepRecord))
    return with_scores, tuple(record for record in records if not isinstance(record, StepRecord))


def _inside(waiting: Asked) -> tuple[InsidePoint, ...]:
    reports = waiting.inside.result() if waiting.inside is not None else []
    return tuple(
        InsidePoint(iteration=snapshot.iteration, samples=snapshot.iteration * waiting.data.batch_size, scores=report)
        for snapshot, report in zip(waiting.expert.snapshots, reports, strict=True)
    )


def _probing(experiment: ExperimentConfig, prepared: Prepared) -> dict:
    if experiment.evaluation.probe is None:
        return {}
    return {"probe": experiment.evaluation.probe, "training": list(prepared.scored.probing)}
