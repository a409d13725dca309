"""What a living stream shows after every run: its record, its pages and tables; views that can be made again.

Each looks at its newest steps for what it lacks, so that the n-th arrival costs as much as the first. One that cannot
be made now is said in the log and made by the next run: what was decided stands.
"""

import json
from collections.abc import Callable

from prefect import get_run_logger
from prefect.artifacts import create_table_artifact

from data_catalog import catalog, catalog_steps, promotions, store
from data_catalog.outage import Outage
from data_catalog.places import home
from data_catalog.recorded import RecordedStep, TrainedStep
from data_catalog.store import MissingArtifact
from data_catalog.store_files import write_atomically
from models import living
from models.evaluation import page
from models.evaluation.record import (
    ExperimentRecord,
    RecipeRecord,
    StageRecord,
    known_experiments,
    pointed_to,
    run_name,
    store_record,
)
from models.living import LivingStep
from tasks.caching import uncached
from tasks.registry import keep_up
from tasks.tracking import log_life

YOUNG, SHARE = 16, 16  # pages of the first steps are all written, later ones when a sixteenth has come since


@uncached(label="show {stream}")
def show_living(stream: str, recipe: str, config: str, seed: int, stages: list[StageRecord]) -> None:
    """Bring all views of a stream up to its ledgers: record, report, MLflow, catalog, and what this run did."""
    digests = living.finished(stream)
    create_table_artifact(stage_rows(stages), key=f"{stream}-stages", description=f"What this run of {stream} did")
    keep_up(stream)
    if not digests:
        return
    _made("the report", lambda: write_record(stream, recipe, config, seed, digests, stages))
    _made("MLflow", lambda: log_life(stream, seed, recipe, digests))
    _made("the catalog", lambda: enter_in_catalog(stream, recipe, seed, digests))


def stage_rows(stages: list[StageRecord]) -> list[dict]:
    """One row per stage of a run."""
    return [
        {"stage": s.label, "did": "re-used" if s.reused else "ran", "why": s.reason, "seconds": round(s.seconds, 2)}
        for s in stages
    ]


def write_record(
    stream: str, recipe: str, config: str, seed: int, digests: list[str], stages: list[StageRecord]
) -> None:
    """Store the record after each step, and write the page of it unless the last one is almost as new.

    Pages take longer the more steps there are; so does the record, in milliseconds.
    """
    name, steps, mark = run_name(stream, seed), len(digests), living.file_of(stream, "views.json")
    known = json.loads(mark.read_text()) if mark.is_file() else {"record": 0, "page": 0}
    has_record = known["record"] == steps and name in known_experiments() and store.is_intact(pointed_to(name))
    has_page = (home() / "reports" / f"{name}.html").is_file() and not _is_behind(known["page"], steps)
    if has_record and has_page:
        return
    record = record_of(stream, recipe, config, seed, [living.load_step(digest) for digest in digests], stages)
    if not has_record:
        store_record(record)
    if not has_page:
        page.write(record)
    now = {"record": steps, "page": known["page"] if has_page else steps}
    write_atomically(mark, json.dumps(now).encode())


def _is_behind(written: int, steps: int) -> bool:
    """Whether a page of the first `written` steps is to be replaced by one of all."""
    return written < steps and (steps <= YOUNG or steps - written >= steps / SHARE)


def enter_in_catalog(stream: str, recipe: str, seed: int, digests: list[str]) -> None:
    """Enter the steps that the catalog lacks; without draws that housekeeping has let go, a step is left out."""
    name = run_name(stream, seed)
    last = catalog_steps.last_step(name, recipe)
    missing = [living.load_step(digest) for digest in digests[0 if last is None else last + 1 :]]
    whole = [step for step in missing if store.is_intact(step.record.step_plan)]
    if lost := len(missing) - len(whole):
        get_run_logger().warning("what %d steps of %s drew is gone: the catalog lacks them", lost, stream)
    if whole:
        catalog_steps.record_steps([_fact(name, recipe, step) for step in whole])


def record_of(
    stream: str, recipe: str, config: str, seed: int, steps: list[LivingStep], stages: list[StageRecord]
) -> ExperimentRecord:
    """The steps so far as those of a stream with an end: one recipe, each step with the weights it proposed."""
    last = steps[-1]
    begun = promotions.entries(stream)[0]
    life = RecipeRecord(name=recipe, description="what each step proposed", steps=[step.record for step in steps])
    return ExperimentRecord(
        name=stream, seed=seed, config=config, adaptation=last.adaptation, retention=last.retention, groups=last.groups,
        zero_shot=last.first, zero_shot_summary=last.first_summary, pretrained=begun.checkpoint, recipes=(life,),
        stream=last.plan.steps, stages=tuple(stages), eval_sets=last.eval_sets,
    )  # fmt: skip


def _fact(name: str, recipe: str, step: LivingStep) -> RecordedStep:
    record = step.record
    trained = TrainedStep(recipe=recipe, step=step.step, step_plan=record.step_plan, checkpoint=record.expert,
                          deployed=record.deployed)  # fmt: skip
    starts = catalog.starts_of([trained]) if step.step == 0 else ()
    return RecordedStep(
        name=name, step=trained, arrival=step.arrival.digest, plan=step.plan.digest, steps=len(step.plan.steps),
        pretraining_samples=step.plan.pretraining_samples, starts=starts,
    )  # fmt: skip


def _made(what: str, make: Callable[[], None]) -> None:
    """Make a view; what is in its way is no reason to fail a run whose decision stands."""
    try:
        make()
    except (Outage, MissingArtifact) as problem:
        get_run_logger().warning("%s lacks the newest steps, the next run tries again: %s", what, problem)
