"""Score any checkpoint on the evaluation sets of an experiment."""

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from data_catalog.refs import Spec
from flows.asked import scores_of, whole_scores_of
from flows.environment import open_home
from flows.experiment import ExperimentConfig, given
from flows.ingest import ingest_experiment
from flows.preparing import choose, prepare
from models.evaluation.scores import EvalReport, StepScores
from tasks.journal import journal


class Evaluation(Spec):
    """The scores of one checkpoint and their summary."""

    report: EvalReport
    summary: StepScores
    groups: dict[str, float] = Field(default_factory=dict)  # the means of the user's groups of sets


@flow(name="evaluate", task_runner=ThreadPoolTaskRunner(max_workers=4))
def evaluate(config: ExperimentConfig | str, checkpoint: str = "pretrained", whole: bool = False) -> Evaluation:
    """Score `checkpoint` as the experiment `config` scores its own.

    `checkpoint`: `pretrained`, the digest of any weights of the experiment's backbone in the store, or
    `<recipe>/<step>` for what the last run of the experiment deployed after that step. `whole`: on whole sets, where
    the experiment scores steps on subsets.
    """
    open_home()  # a worker's process has no command before it that did
    experiment = given(config)
    with journal():
        prepared = prepare(experiment, ingest_experiment(experiment))
        chosen = choose(experiment, prepared.start, checkpoint)
        on_whole_sets = whole_scores_of(experiment, prepared, chosen, checkpoint) if whole else None
        report = (on_whole_sets or scores_of(experiment, prepared, chosen, checkpoint)).result()
    means = prepared.scored.means
    return Evaluation(report=report, summary=means.summary(-1, report), groups=means.of_groups(report))
