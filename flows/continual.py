"""The life of a model: data to stream, then update, merge and evaluation once per step, for every recipe compared."""

from prefect import flow

from data_catalog.mixture import split_batch
from data_catalog.stream import StepPlan
from flows.asked import asked, reports_of, scored, settle
from flows.engines import carried_out_by
from flows.environment import open_home
from flows.experiment import ExperimentConfig, Recipe, as_yaml, given
from flows.forms import GivenExperiment, GivenSeed
from flows.ingest import ingest_experiment
from flows.living_config import require_an_end
from flows.merge_search import chosen_merge
from flows.merging import advanced, measured, merged_per_step, picked
from flows.preparing import Prepared, prepare
from models.budget import Mafs
from models.checkpoints import CheckpointRef
from models.costs import what_costs
from models.evaluation.record import ExperimentRecord, MergePoint, RecipeRecord, StreamReport
from models.merging.linear import Linear
from models.merging.temporal import History, warn_of_growth
from models.prices import StepCost
from models.published import as_charged, row_of
from models.snapshots import iterations_inside
from models.train import Expert
from models.updates import UpdateSpec
from models.updates.memory import MemoryRef
from tasks.compose import compose_step
from tasks.evaluate import evaluate_candidates
from tasks.journal import journal
from tasks.merge import merge_weights
from tasks.report import publish_report, record_stream
from tasks.update import price_update, update_weights, update_with_snapshots


@flow(name="continual-pretrain")
def continual_pretrain(config: GivenExperiment, seed: GivenSeed = None) -> StreamReport:
    """Run an experiment from raw data to report; what was done before with the same inputs is re-used.

    Args:
        config: An experiment, or the path of its YAML file.
        seed: Replaces the seed of the experiment, and of its synthetic data.
    """
    open_home()  # a worker's process has no command before it that did
    experiment = given(config, seed)
    require_an_end(experiment)
    with carried_out_by(experiment.execution.stages), journal() as stages:
        prepared = prepare(experiment, ingest_experiment(experiment))
        pretrained = prepared.start
        zero_shot, zero_shot_full = reports_of(experiment, prepared, pretrained, "pretrained", is_end=True)()
        recipes = tuple(live(experiment, name, prepared) for name in experiment.recipes)
        record_stream(experiment.name, experiment.seed, prepared.plan, list(recipes), list(prepared.exclusions))
        record = ExperimentRecord(
            name=experiment.name,
            seed=experiment.seed,
            config=as_yaml(experiment),
            **dict(prepared.scored.means),
            zero_shot=zero_shot,
            zero_shot_summary=prepared.scored.means.summary(-1, zero_shot),
            zero_shot_full=zero_shot_full,
            pretrained=pretrained.digest,
            recipes=recipes,
            stream=prepared.plan.steps,
            stages=tuple(stages),
            eval_sets=prepared.eval_sets,
        )
        return publish_report(record)


def live(experiment: ExperimentConfig, name: str, prepared: Prepared) -> RecipeRecord:
    """Take one recipe through the stream; each evaluation runs beside the next update."""
    recipe = experiment.recipes[name]
    steps = len(prepared.plan.steps)
    cost = priced(experiment, recipe, prepared.start)
    iterations = experiment.budget.iterations(cost, steps)
    history, merging = History.start(prepared.start), recipe.merge
    warn_of_growth(merging, name)
    for candidate in recipe.search.candidates(experiment.seed) if recipe.search else ():
        warn_of_growth(merging.model_copy(update={"technique": candidate}), f"the search of {name}")
    records, waiting, memory = [], None, None
    for step in range(steps):
        data = compose_step(prepared.plan, step, recipe.mixture, experiment.batch_size, iterations, experiment.seed,
                            name, recipe.buffer, recipe.pool)  # fmt: skip
        init = picked(history, merging, merging.init, experiment.seed, name, step)
        expert = updated(experiment, name, init, data, used(recipe.update, prepared.start, memory, steps))
        past, memory = history.before(merging.includes_zs("ema")), expert.memory
        merging = chosen_merge(experiment, name, prepared, history, expert.checkpoint, step)
        statistics = measured(merging, recipe.update, expert.checkpoint, data, experiment.seed, name)
        history = advanced(history, merging, expert.checkpoint, experiment.seed, name, step, statistics)
        deployed = picked(history, merging, merging.deploy, experiment.seed, name, step)
        now = asked(experiment, name, prepared, data, expert, deployed, merged_per_step(merging, history))
        records += settle(experiment, name, prepared, cost, waiting)
        waiting = now
    records += settle(experiment, name, prepared, cost, waiting)
    tried = try_weights(experiment, name, prepared, history, past) if merging.needs_running and past else ()
    with_scores, without = scored(records)
    return RecipeRecord(name=name, description=recipe.description, steps=with_scores, unscored=without,
                        merge_points=tried)  # fmt: skip


def updated(experiment: ExperimentConfig, name: str, init: CheckpointRef, data: StepPlan, uses: dict) -> Expert:
    """The expert of a step, with snapshots inside it if the experiment asks for evaluations there."""
    spec, inside = experiment.recipes[name].update, experiment.evaluation.inside
    at = iterations_inside(inside.every_samples, data.batch_size, data.iterations) if inside else ()
    launch = experiment.execution.training
    if not at:
        return update_weights(init, data, spec, experiment.seed, name, **uses, launch=launch)
    return update_with_snapshots(init, data, spec, experiment.seed, name, at, **uses, launch=launch)


def used(spec: UpdateSpec, pretrained: CheckpointRef, memory: MemoryRef | None, steps: int) -> dict:
    """What beside weights and data decides an update: given only where the method or the schedule uses it.

    So a stream that is longer, or begins elsewhere, re-uses the updates of another wherever it may.
    """
    return {
        "pretrained": pretrained if "pretrained" in spec.method.USES else None,
        "memory": memory if "memory" in spec.method.USES else None,
        "steps": steps if spec.schedule.spans_stream() else None,
    }


def try_weights(
    experiment: ExperimentConfig, name: str, prepared: Prepared, history: History, past: CheckpointRef
) -> tuple[MergePoint, ...]:
    """The last merge again with other weights on `past`, the running merge before it; nothing goes on from these.

    All are scored in one pass over the images.
    """
    last, weights = len(prepared.plan.steps) - 1, sorted({*experiment.past_weights})
    tried = [
        merge_weights(history.pretrained, [history.expert, past], Linear(weights=(1 - weight, weight)),
                      f"{name} past weight {weight:g}", last, newest=0)
        for weight in weights
    ]  # fmt: skip
    sets = list(prepared.eval_sets)
    reports = evaluate_candidates.submit(tried, sets, f"{name} past weights").result() if tried else []
    return tuple(
        MergePoint(past_weight=weight, summary=prepared.scored.means.summary(last, report))
        for weight, report in zip(weights, reports, strict=True)
    )


def priced(experiment: ExperimentConfig, recipe: Recipe, start: CheckpointRef) -> StepCost:
    """What every step of a recipe costs but the first, whose batches have no buffer yet."""
    rows = split_batch(experiment.batch_size, recipe.mixture, step=1)
    cost = price_update(start.backbone, what_costs(recipe.update), experiment.batch_size, rows["pretraining"])
    if isinstance(experiment.budget, Mafs) and experiment.budget.charged == "paper":
        return as_charged(cost, row_of(recipe.update.method, cost, experiment.batch_size))
    return cost
