"""Lives of streams written straight into the ledgers: what a step leaves, without making one."""

import pyarrow as pa

from data_catalog import promotions, store
from data_catalog.arrivals import Arrival
from data_catalog.promotions import Promotion
from data_catalog.stream import StepSummary, StreamPlan
from models import living
from models.checkpoints import CheckpointRef
from models.evaluation.record import StepRecord
from models.evaluation.scores import EvalReport, Score, StepScores
from models.gate import Verdict
from models.living import BegunStep, LivingStep
from models.merging.temporal import History
from models.train import Expert

STREAM = "stream"


def enter(deed: str, checkpoint: CheckpointRef, step: int | None = None, returns_to: int | None = None) -> Promotion:
    """Add an entry to the ledger of promotions."""
    live = promotions.live(STREAM)
    entry = Promotion(number=0, deed=deed, checkpoint=checkpoint.digest, backbone=checkpoint.backbone, step=step,
                      by="person", reason=f"asked to {deed}", returns_to=returns_to, time="")  # fmt: skip
    return promotions.add(STREAM, entry, follows=live and live.number)


def finish_step(candidate: CheckpointRef, expert: CheckpointRef, config: bytes = b"name: stream") -> LivingStep:
    """Begin and finish the next step, which started from what is live."""
    number, live = len(living.finished(STREAM)), promotions.live(STREAM)
    arrival = Arrival(digest=store.write_bytes(f"arrival {number}".encode()), samples={"PETS": 8})
    prepared = store.write_bytes(f"prepared {number}".encode())
    living.begin(STREAM, BegunStep(step=number, arrival=arrival, prepared=prepared))
    reports = [_report(digest) for digest in (candidate.digest, live.checkpoint, live.checkpoint)]
    curves = store.write_table(pa.table({"iteration": [0], "loss": [1.0], "lr": [0.1]}), stage="train")
    verdict = Verdict(outcome="hold", reasons=("as told",), checks=(), candidate=candidate.digest, live=live.checkpoint)
    step = LivingStep(
        step=number, arrival=arrival, config=store.write_bytes(config), follows=live.number,
        plan=StreamPlan(digest=store.write_bytes(f"plan {number}".encode()), pretraining_samples=5, steps=[
            StepSummary(name=f"step {t}", concepts=1, samples=8, datasets=("PETS",)) for t in range(number + 1)]),
        started_from=live.checkpoint, expert=Expert(checkpoint=expert, curves=curves, iterations=3),
        candidate=candidate,
        history=History(pretrained=candidate, experts=(expert,)),
        record=StepRecord(
            step=number, expert=expert.digest, deployed=candidate.digest, curves=curves, iterations=3, seconds=1.5,
            step_plan=store.write_bytes(f"draws {number}".encode(), stage="compose_step"),
            draws={"update": 6, "buffer": 2}, mafs_planned=7.5, mafs_used=7.25, scores=reports[0],
            summary=_summary(number)),
        live=reports[1], live_summary=_summary(number), first=reports[2], first_summary=_summary(-1), eval_sets=(),
        adaptation=("PETS",), retention=("CARS",), verdict=verdict,
        verdict_digest=store.write_bytes(verdict.model_dump_json().encode()),
    )  # fmt: skip
    living.finish(STREAM, step)
    return step


def _report(digest: str) -> EvalReport:
    names = {"PETS": 0.5, "CARS": 0.25}
    scores = [Score(dataset=n, metric="accuracy_top1", value=value, samples=20) for n, value in names.items()]
    return EvalReport(checkpoint=digest, scores=scores)


def _summary(step: int) -> StepScores:
    return StepScores(step=step, knowledge_accumulation=0.5, zero_shot_retention=0.25, geometric_mean=0.354)
