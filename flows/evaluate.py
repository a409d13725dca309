"""Score any checkpoint on the evaluation sets of an experiment."""

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from data_catalog.refs import Spec
from flows.environment import open_home
from flows.experiment import ExperimentConfig, given
from flows.ingest import ingest_experiment
from flows.preparing import choose, prepare
from models.evaluation.scores import EvalReport, StepScores, summarise
from tasks.evaluate import evaluate_checkpoint
from tasks.journal import journal


class Evaluation(Spec):
    """The scores of one checkpoint and their summary."""

    report: EvalReport
    summary: StepScores


@flow(name="evaluate", task_runner=ThreadPoolTaskRunner(max_workers=4))
def evaluate(config: ExperimentConfig | str, checkpoint: str = "pretrained") -> Evaluation:
    """Score `checkpoint` as the experiment `config` scores its own.

    `checkpoint`: `pretrained`, the digest of any weights of the experiment's backbone in the store, or
    `<recipe>/<step>` for what the last run of the experiment deployed after that step.
    """
    open_home()  # a worker's process has no command before it that did
    experiment = given(config)
    with journal():
        prepared = prepare(experiment, ingest_experiment(experiment))
        chosen = choose(experiment, prepared.start, checkpoint)
        report = evaluate_checkpoint(chosen, list(prepared.eval_sets), checkpoint)
    return Evaluation(report=report, summary=summarise(-1, report, prepared.adaptation, prepared.retention))
