"""The life of a deployed model: whatever arrives is a step, which starts from what is live and ends at the gate."""

import json
import logging
from typing import Literal

from prefect import flow, get_run_logger

from data_catalog import promotions, store
from data_catalog.arrivals import Arrival
from data_catalog.promotions import LiveChanged, Promotion
from data_catalog.refs import Spec
from data_catalog.store_files import write_atomically
from flows.arriving import lock_of, waited, waiting_path
from flows.asking import ask, carry_out_answer
from flows.continual import priced, updated, used
from flows.engines import carried_out_by
from flows.environment import open_home
from flows.experiment import as_yaml
from flows.forms import GivenStream
from flows.ingest import locate
from flows.living_config import LivingConfig, given_living
from flows.living_data import ingest_arriving, new_samples, prepare_step, usable
from flows.merge_search import chosen_merge
from flows.merging import advanced, measured, merged_per_step, picked
from flows.preparing import Prepared
from flows.promotion import show_decision
from flows.scored_sets import name_in_reports
from flows.telling import show_status, tell, tell_of_failure
from models import living
from models.checkpoints import CheckpointRef
from models.evaluation.scores import EvalReport
from models.gate import Outcome, Roles, judge, refuse_unknown
from models.living import BegunStep, LivingStep
from models.merging.temporal import History, warn_of_growth
from tasks.compose import compose_step
from tasks.evaluate import evaluate_candidates
from tasks.journal import journal
from tasks.living import show_living
from tasks.locks import exclusive, is_held
from tasks.report import step_record, unscored_step
from tasks.run_progress import run_progress
from tasks.verdict import show_last_verdict

log = logging.getLogger(__name__)


class LivingOutcome(Spec):
    """What one run of a living stream did."""

    stream: str
    did: Literal["step", "nothing new", "waiting", "answered"]  # answered: carried out what a person answered to it
    waiting: int = 0  # samples that have arrived but were too few for a step
    step: int | None = None
    verdict: Outcome | None = None
    reasons: tuple[str, ...] = ()
    held: bool = False  # a person is to decide about the step
    live: str  # digest of what is live after the run
    live_step: int | None = None  # None: the weights the stream began with


@flow(name="living-stream", on_failure=[tell_of_failure], on_crashed=[tell_of_failure])
def living_stream(config: GivenStream, now: bool = False, afresh: bool = False) -> LivingOutcome:
    """Make one step of everything that has arrived, judge it, and let the gate move the live model.

    A run that was killed is finished by the next one; two runs at once take turns; without new data nothing happens. A
    deployed run that ends with a held step asks a person, and is suspended until the answer.

    Args:
        config: A living stream, or the path of its YAML file.
        now: Take a step however few samples there are.
        afresh: Choose the data anew of a step that was begun and not finished.
    """
    open_home()  # a worker's process has no command before it that did
    stream = given_living(config)
    if entry := carry_out_answer(stream.name):  # this run asked a person, who has answered
        show_decision(stream.name, entry)
        return _outcome(stream.name, entry)
    warn_of_growth(stream.recipe.merge, stream.recipe_name)
    lock = lock_of(stream.name)
    if is_held(lock):
        get_run_logger().info(
            "another run of %s is at work: this one waits for it, then sees what is left", stream.name
        )
    with (
        exclusive(lock),
        run_progress(stream.name) as progress,
        carried_out_by(stream.execution.stages),
        journal(progress.tell) as stages,
    ):
        if afresh and (given_up := living.give_up(stream.name, "asked for")):
            get_run_logger().info("step %d, which was begun, is chosen anew", given_up.step)
        finish_decisions(stream.name)
        locate((*stream.sources, *stream.evaluation.own))
        opened = living.begun(stream.name) or open_step(stream, now)
        if isinstance(opened, BegunStep):
            done = live_step(stream, opened)
            decide(stream.name, done)
        show_living(stream.name, stream.recipe_name, as_yaml(stream), stream.seed, list(stages))
        show_last_verdict(stream.name)
        tell(stream.name, stream.living.alerts, get_run_logger())
        show_status(stream.name)
    ask(stream.name, stream.living.ask_minutes)  # the lock is free: what arrives meanwhile does not wait for a person
    return _outcome(stream.name, opened)


def open_step(stream: LivingConfig, now: bool) -> BegunStep | Arrival | None:
    """Begin a step of what has arrived; the arrival if it is too small for one yet, None if there is none."""
    ingested = ingest_arriving(stream)
    material, twins, start = usable(stream, ingested)
    earlier = living.arrivals(stream.name)
    if (arrival := new_samples(material, earlier)) is None:
        _forget_waiting(stream.name)
        return None
    if not now and not _is_enough(stream, arrival):
        return arrival
    prepared = prepare_step(stream, ingested, material, twins, start, [*earlier, arrival])
    refuse_unknown(stream.living.gate, {some.name: some for some in prepared.eval_sets}, prepared.scored.means.groups)
    begun = BegunStep(
        step=len(earlier), arrival=arrival,
        prepared=store.write_bytes(prepared.model_dump_json().encode(), kind="prepared step", stream=stream.name),
    )  # fmt: skip
    living.begin(stream.name, begun)
    _forget_waiting(stream.name)
    return begun


def live_step(stream: LivingConfig, begun: BegunStep) -> LivingStep:
    """Update, merge, evaluate and judge; everything that is done already is re-used."""
    prepared = Prepared.model_validate_json(store.read_bytes(begun.prepared))
    recipe, name, step = stream.recipe, stream.recipe_name, begun.step
    live = living.live_now(stream.name)
    checkpoint = CheckpointRef(digest=live.checkpoint, backbone=live.backbone)
    before = living.behind(stream.name, live)
    history = _history(stream, prepared.start, checkpoint, before)
    cost = priced(stream, recipe, prepared.start)
    data = compose_step(prepared.plan, step, recipe.mixture, stream.batch_size, stream.budget.iterations(cost, 1),
                        stream.seed, name, recipe.buffer, recipe.pool)  # fmt: skip
    memory = before.expert.memory if before else None
    expert = updated(stream, name, checkpoint, data, used(recipe.update, prepared.start, memory, 1))
    merging = chosen_merge(stream, name, prepared, history, expert.checkpoint, step)
    statistics = measured(merging, recipe.update, expert.checkpoint, data, stream.seed, name)
    after = advanced(history, merging, expert.checkpoint, stream.seed, name, step, statistics)
    candidate = picked(after, merging, merging.deploy, stream.seed, name, step)
    first, now, then = _scored(prepared, [prepared.start, checkpoint, candidate], f"{name} step {step}")
    means, roles = prepared.scored.means, _roles(stream, prepared, begun.arrival)
    verdict = judge(stream.living.gate, then, now, roles, stream.evaluation.weights, first)
    share = stream.budget.share(cost, 1)
    done = unscored_step(data, expert, candidate, cost, share, merged_per_step(merging, after))
    finished = LivingStep(
        step=step, arrival=begun.arrival, plan=prepared.plan, config=store.write_bytes(as_yaml(stream).encode()),
        follows=live.number, started_from=live.checkpoint, expert=expert, candidate=candidate, history=after,
        record=step_record(done, then, means.summary(step, then)), live=now, live_summary=means.summary(step, now),
        first=first, first_summary=means.summary(-1, first), eval_sets=prepared.eval_sets, adaptation=means.adaptation,
        retention=means.retention, groups=means.groups, verdict=verdict,
        verdict_digest=store.write_bytes(verdict.model_dump_json().encode(), kind="verdict", step=step),
    )  # fmt: skip
    living.finish(stream.name, finished)
    return finished


def decide(stream: str, done: LivingStep) -> Promotion | None:
    """Carry the verdict on a step out: in the ledger it is promoted or rejected; None if a person is to decide."""
    verdict = done.verdict
    if verdict.outcome == "hold" or promotions.decided(stream, done.step):
        return None
    entry = Promotion(
        number=0, deed=verdict.outcome, checkpoint=done.candidate.digest, backbone=done.candidate.backbone,
        step=done.step, by="gate", reason="; ".join(verdict.reasons), verdict=done.verdict_digest, time="",
    )  # fmt: skip
    try:
        return promotions.add(stream, entry, follows=done.follows)
    except LiveChanged as changed:
        log.warning("step %d is held for a person: %s", done.step, changed)
        return None


def finish_decisions(stream: str) -> None:
    """Carry out the verdict on the last step, where a run was killed between the two."""
    if (last := living.last_step(stream)) is not None:
        decide(stream, last)


def _history(stream: LivingConfig, start: CheckpointRef, live: CheckpointRef, before: LivingStep | None) -> History:
    """What a step that starts from the live weights may merge with; the running merge is what is live."""
    if before is None:
        return History.start(start)
    spec, history = stream.recipe.merge, before.history
    if spec.technique.USES_STATISTICS and spec.needs_running and live.digest not in history.statistics:
        raise ValueError(
            f"`{spec.technique.kind}` weighs by statistics, and the live weights of {stream.name} (step {before.step}) "
            "were made without any: take another technique, or begin a stream of another name"
        )
    return history.with_running(live) if spec.needs_running else history


def _scored(prepared: Prepared, checkpoints: list[CheckpointRef], label: str) -> list[EvalReport]:
    """The report of each, scored in one pass over the images, each checkpoint once."""
    once = list({checkpoint.digest: checkpoint for checkpoint in checkpoints}.values())
    reports = evaluate_candidates.submit(once, list(prepared.eval_sets), label).result()
    found = {report.checkpoint: report for report in reports}
    return [found[checkpoint.digest] for checkpoint in checkpoints]


def _roles(stream: LivingConfig, prepared: Prepared, arrival: Arrival) -> Roles:
    means, there = prepared.scored.means, {some.name for some in prepared.eval_sets}
    new = (name_in_reports(name, stream.evaluation, ()) for name in arrival.samples)
    return Roles(adaptation=means.adaptation, retention=means.retention, groups=means.groups,
                 new=tuple(name for name in new if name in there))  # fmt: skip


def _is_enough(stream: LivingConfig, arrival: Arrival) -> bool:
    """Whether so many samples, or so long a wait, make a step; the wait of the oldest counts."""
    spec, path = stream.living.arrivals, waiting_path(stream.name)
    if arrival.total >= spec.least_samples:
        return True
    since, hours = waited(json.loads(path.read_text())["since"] if path.is_file() else None, get_run_logger())
    if spec.longest_wait_hours is not None and hours >= spec.longest_wait_hours:
        return True
    write_atomically(path, json.dumps({"since": since.isoformat(), "samples": arrival.samples}).encode())
    get_run_logger().info("%d new samples wait since %s for %d", arrival.total, since, spec.least_samples)
    return False


def _forget_waiting(stream: str) -> None:
    waiting_path(stream).unlink(missing_ok=True)


def _outcome(stream: str, opened: BegunStep | Arrival | Promotion | None) -> LivingOutcome:
    live = promotions.live(stream)
    told = {"stream": stream, "live": live.checkpoint, "live_step": live.step}
    if isinstance(opened, BegunStep):
        verdict = living.step_at(stream, opened.step).verdict
        held = promotions.decided(stream, opened.step) is None
        return LivingOutcome(did="step", step=opened.step, verdict=verdict.outcome, reasons=verdict.reasons, held=held,
                             **told)  # fmt: skip
    if isinstance(opened, Promotion):
        return LivingOutcome(did="answered", step=opened.step, reasons=(opened.reason,), **told)
    if opened is not None:
        return LivingOutcome(did="waiting", waiting=opened.total, **told)
    return LivingOutcome(did="nothing new", **told)
