"""Score any checkpoint on the evaluation sets of an experiment."""

from typing import Annotated, Literal

from prefect import flow
from pydantic import Field

from data_catalog.refs import Spec
from flows.asked import scores_of, whole_scores_of
from flows.chosen_weights import choose, digest_asked_for
from flows.engines import carried_out_by
from flows.environment import open_home
from flows.experiment import ExperimentConfig, given
from flows.forms import GivenExperiment
from flows.ingest import ingest_experiment
from flows.living_config import LivingConfig
from flows.living_data import prepare_now
from flows.preparing import Prepared, prepare
from models.checkpoints import CheckpointRef
from models.evaluation.paper_profile import SHARE
from models.evaluation.scores import EvalReport, Score, StepScores
from tasks.evaluate import evaluate_as_upstream
from tasks.journal import journal


class Evaluation(Spec):
    """The scores of one checkpoint and their summary."""

    report: EvalReport
    summary: StepScores
    groups: dict[str, float] = Field(default_factory=dict)  # the means of the user's groups of sets
    legacy: tuple[Score, ...] = ()  # with the defects of the benchmark's own evaluation, under profile `paper`


@flow(name="evaluate")
def evaluate(
    config: GivenExperiment,
    checkpoint: Annotated[str, Field(min_length=1, examples=["merged/4"])] = "pretrained",
    whole: bool = False,
    profile: Literal["paper"] | None = None,
) -> Evaluation:
    """Score `checkpoint` as the experiment `config` scores its own.

    Of a living stream, all that has arrived by now is scored.

    Args:
        config: An experiment or a living stream, or the path of its YAML file.
        checkpoint: `pretrained`, the digest of any weights of the experiment's backbone in the store, or
            `<recipe>/<step>` for what the last run deployed after that step; of a living stream also `live`.
        whole: On whole sets, where the experiment scores steps on subsets.
        profile: paper adds what the benchmark's own evaluation would have said of whole sets; raises ValueError where
            other images than test images are scored.
    """
    open_home()  # a worker's process has no command before it that did
    experiment = given(config)
    if profile == "paper":
        _refuse_other_images(experiment)
    digest_asked_for(experiment, checkpoint)  # known to be there before anything is done
    with carried_out_by(experiment.execution.stages), journal():
        if isinstance(experiment, LivingConfig):
            prepared = prepare_now(experiment)
        else:
            prepared = prepare(experiment, ingest_experiment(experiment))
        chosen = choose(experiment, prepared.start, checkpoint)
        on_whole_sets = whole_scores_of(experiment, prepared, chosen, checkpoint) if whole else None
        report = (on_whole_sets or scores_of(experiment, prepared, chosen, checkpoint)).result()
        legacy = _as_upstream(experiment, prepared, chosen, checkpoint) if profile == "paper" else ()
    means = prepared.scored.means
    return Evaluation(report=report, summary=means.summary(-1, report), groups=means.of_groups(report), legacy=legacy)


def _as_upstream(
    experiment: ExperimentConfig, prepared: Prepared, checkpoint: CheckpointRef, label: str
) -> tuple[Score, ...]:
    whole = whole_scores_of(experiment, prepared, checkpoint, label)
    report = (whole or scores_of(experiment, prepared, checkpoint, label)).result()
    sets = list(prepared.scored.whole or prepared.eval_sets)
    share = experiment.evaluation.subset or SHARE
    return tuple(evaluate_as_upstream.submit(checkpoint, sets, report, experiment.seed, share, label).result())


def _refuse_other_images(experiment: ExperimentConfig) -> None:
    if (images := experiment.evaluation.images) != "test":
        raise ValueError(f"profile paper is of test images, but `evaluation.images` is {images}: set it to test")
