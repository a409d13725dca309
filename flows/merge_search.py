"""Choose merges by validation images: a flow of its own, and a stage of the stream. No test image is looked at."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from prefect import flow, get_run_logger
from pydantic import Field, TypeAdapter, ValidationError

from data_catalog.validation import validation_name
from flows.engines import carried_out_by
from flows.environment import open_home
from flows.experiment import ExperimentConfig, given
from flows.forms import GivenExperiment, GivenSeed
from flows.ingest import ingest_experiment
from flows.living_config import require_an_end
from flows.merging import advanced, picked
from flows.preparing import Prepared, prepare
from models.checkpoints import CheckpointRef
from models.evaluation.record import ExperimentRecord, RecipeRecord, find_record, run_name
from models.merging import AnyTechnique
from models.merging.search import AnySearch, Grid, Sampled, check_number, default_search
from models.merging.temporal import History, MergeSpec
from models.merging.trials import SearchReport, Trial, trials, validated
from tasks.evaluate import evaluate_candidates
from tasks.journal import journal
from tasks.report import publish_search

Over = Literal["pair", "all"]  # newest expert and what it is merged with; all experts so far
DECIDING = ("seed", "sources", "pretraining", "captioners", "start", "stream", "batch_size", "budget")


@flow(name="merge-search")
def merge_search(
    config: GivenExperiment,
    recipe: Annotated[str | None, Field(examples=["merged"])] = None,
    step: Annotated[int | None, Field(ge=0, examples=[4])] = None,
    search: Annotated[str | Grid | Sampled | None, Field(examples=["search.yaml"])] = None,
    over: Over | None = None,
    seed: GivenSeed = None,
) -> SearchReport:
    """Score candidate merges of the checkpoints that the last run of an experiment made, on its validation images.

    Raises ValueError if the experiment keeps no validation images, or was not run as it is now.

    Args:
        config: An experiment that has run, or the path of its YAML file.
        recipe: Whose checkpoints; empty: the last of the file.
        step: The last one merged, counted from 0; empty: the last of the stream.
        search: What is tried, or the path of a YAML file that says so; empty: as the recipe searches, or a small grid.
        over: What is merged: pair, the newest expert and what it is merged with, or all experts so far; empty: as the
            recipe deploys.
        seed: Replaces the seed of the experiment, and of its synthetic data.
    """
    open_home()  # a worker's process has no command before it that did
    experiment = given(config, seed)
    require_an_end(experiment)
    chosen = recipe or [*experiment.recipes][-1]
    if chosen not in experiment.recipes:
        raise ValueError(f"no recipe {chosen!r} in {experiment.name}, only {', '.join(experiment.recipes)}")
    if experiment.evaluation.validation is None:
        raise ValueError(
            f"{experiment.name} keeps no images to choose by: set `evaluation.validation`, e.g. {{share: 0.1}}, and "
            "run it again, for its checkpoints were trained on all training images"
        )
    record, wanted = run_of(experiment, chosen), given_search(search)
    with carried_out_by(experiment.execution.stages), journal():
        prepared = prepare(experiment, ingest_experiment(experiment))
        if (record.pretrained, record.stream) != (prepared.start.digest, prepared.plan.steps):
            raise ValueError(f"the data of {experiment.name} have changed since its last run: `evergreen run` it again")
        report = search_record(experiment, chosen, record, prepared, step, wanted, over)
        publish_search(report)
    return report


def search_record(experiment: ExperimentConfig, name: str, record: ExperimentRecord, prepared: Prepared,
                  step: int | None, search: AnySearch | None, over: Over | None) -> SearchReport:  # fmt: skip
    """The search over what a recorded recipe merged at a step."""
    recipe, lived = experiment.recipes[name], next(some for some in record.recipes if some.name == name)
    steps = len(lived.trained)
    step = steps - 1 if step is None else step
    if not 0 <= step < steps:
        raise ValueError(f"step {step} is not in a stream of {steps} steps, counted from 0")
    spec = deploying(recipe.merge, over)
    history, expert = recorded(prepared.start, lived, step)
    merged = entering(history, expert, spec)
    if len(merged) < 2:
        raise ValueError(f"only one expert is merged at step {step} of {name}; search at a later step")
    candidates = (search or recipe.search or default_search(spec.deploy != "all")).candidates(experiment.seed)
    check_number(candidates, len(merged))
    if spec.deploy == recipe.merge.deploy and spec.technique.USES_STATISTICS is None:  # which nobody collects here
        candidates = _with(spec.technique, candidates)
    adaptation = arrived(prepared, step)
    found = try_all(experiment, name, prepared, step, candidates, spec, history, expert)
    return SearchReport(experiment=run_name(experiment.name, experiment.seed), recipe=name, step=step,
                        merged=tuple(some.digest for some in merged), adaptation=tuple(adaptation),
                        retention=prepared.retention, trials=found)  # fmt: skip


def deploying(spec: MergeSpec, over: Over | None) -> MergeSpec:
    """The merge of `over` that is nearest to what `spec` deploys, by default that itself; the init has no part."""
    if over is None:
        over = "all" if spec.deploy == "all" else "pair"
    with_zs = spec.deploy == "ft" and spec.includes_zs("ft")
    deploy = "all" if over == "all" else "ft" if with_zs else "ema"
    return spec.model_copy(update={"init": "ft", "deploy": deploy})


def entering(history: History, expert: CheckpointRef, spec: MergeSpec) -> list[CheckpointRef]:
    """What `spec` merges to deploy, if `expert` came after `history`."""
    if spec.deploy == "ema":
        before = history.before(spec.includes_zs("ema"))
        return [expert, before] if before else [expert]
    return list(history.with_expert(expert).members(spec.deploy, spec.includes_zs(spec.deploy)))


def chosen_merge(experiment: ExperimentConfig, name: str, prepared: Prepared, history: History, expert: CheckpointRef,
                 step: int) -> MergeSpec:  # fmt: skip
    """How the recipe `name` merges after `step`: as it says, or with the best technique of its search.

    The recipe's own technique is a candidate too and wins ties. Candidates are scored on validation images of the
    datasets that have arrived by then, and of the retention sets; before any has arrived, the own technique stays.
    """
    recipe = experiment.recipes[name]
    own = recipe.merge.technique
    if recipe.search is None:
        return recipe.merge
    if not arrived(prepared, step):
        get_run_logger().warning("%s step %d: no adaptation set has arrived, so none is searched by", name, step)
        return recipe.merge
    candidates = _with(own, recipe.search.candidates(experiment.seed))
    found = try_all(experiment, name, prepared, step, candidates, recipe.merge, history, expert)
    best = next(trial for trial in found if trial.is_best)
    get_run_logger().info("%s step %d: deploys with %s, geometric mean %.3f of %d candidates on validation images",
                          name, step, best.technique.model_dump_json(), best.geometric_mean, len(found))  # fmt: skip
    return recipe.merge.model_copy(update={"technique": best.technique})


def try_all(experiment: ExperimentConfig, name: str, prepared: Prepared, step: int,
            candidates: Sequence[AnyTechnique], spec: MergeSpec, history: History, expert: CheckpointRef,
            ) -> tuple[Trial, ...]:  # fmt: skip
    """What would be deployed after `step` with each candidate; all are scored in one pass over the images.

    `history`: before `expert`, the outcome of that step.
    """
    adaptation = arrived(prepared, step)
    wanted = {validation_name(dataset) for dataset in (*adaptation, *prepared.retention)}
    sets = [some for some in prepared.validation_sets if some.name in wanted]
    deployed = []
    for number, technique in enumerate(candidates):
        label, with_it = f"{name} candidate {number}", spec.model_copy(update={"technique": technique})
        after = advanced(history, with_it, expert, experiment.seed, label, step)
        deployed.append(picked(after, with_it, with_it.deploy, experiment.seed, label, step))
    label = f"{name} {len(deployed)} candidates step {step}"
    reports = evaluate_candidates.submit(deployed, sets, label).result()
    weights = experiment.evaluation.weights
    scores = [validated(report, step, adaptation, prepared.retention, sets, weights) for report in reports]
    return trials(candidates, [checkpoint.digest for checkpoint in deployed], scores)


def arrived(prepared: Prepared, step: int) -> list[str]:
    """The adaptation sets with validation images of which no first sample arrives after `step`.

    What arrives later cannot be known to who chooses now; sets that are in no step could always be scored.
    """
    seen, later = (
        {name for some in steps for name in some.datasets}
        for steps in (prepared.plan.steps[: step + 1], prepared.plan.steps[step + 1 :])
    )
    known = {some.name for some in prepared.validation_sets}
    return [n for n in prepared.adaptation if validation_name(n) in known and n not in later - seen]


def recorded(start: CheckpointRef, lived: RecipeRecord, step: int) -> tuple[History, CheckpointRef]:
    """The history before a recorded step, with what was deployed as the running merge, and the expert of the step."""
    experts = [CheckpointRef(digest=some.expert, backbone=start.backbone) for some in lived.trained[: step + 1]]
    last = CheckpointRef(digest=lived.trained[step - 1].deployed, backbone=start.backbone) if step else None
    return History(pretrained=start, experts=tuple(experts[:-1]), running=last), experts[-1]


def run_of(experiment: ExperimentConfig, recipe: str) -> ExperimentRecord:
    """The last run of an experiment; raises ValueError if there is none, or none that was as the experiment is now."""
    record = find_record(run_name(experiment.name, experiment.seed))
    then = ExperimentConfig.model_validate(yaml.safe_load(record.config))
    changed = [name for name in DECIDING if getattr(then, name) != getattr(experiment, name)]
    if then.evaluation.validation != experiment.evaluation.validation:
        changed.append("evaluation.validation")
    if then.recipes.get(recipe) != experiment.recipes[recipe]:
        changed.append(f"recipes.{recipe}")
    if changed:
        raise ValueError(
            f"the last run of {run_name(experiment.name, experiment.seed)} had another {', '.join(changed)}: "
            "`evergreen run` the experiment as it is now, then search"
        )
    return record


def given_search(search: AnySearch | str | None) -> AnySearch | None:
    """The specification a flow was given, itself or as the path of its YAML file; raises ValueError naming the file."""
    if not isinstance(search, str):
        return search
    if not Path(search).is_file():
        raise ValueError(f"no file {search}: give a YAML file with a search, e.g. kind: grid and techniques")
    try:
        return TypeAdapter(AnySearch).validate_python(yaml.safe_load(Path(search).read_text()))
    except (OSError, UnicodeDecodeError, ValidationError, yaml.YAMLError) as error:
        raise ValueError(f"{search} is not a valid search: {error}") from error


def _with(own: AnyTechnique, others: Sequence[AnyTechnique]) -> tuple[AnyTechnique, ...]:
    return (own, *(technique for technique in others if technique != own))
