"""How much faster two processes are than one, a core each, at preparing training batches and at scoring checkpoints.

    python benchmarks/scaling.py [--images 2000] [--repeats 5] [--output docs/operations/engines.md]

Batches: every process prepares its rows of the same global batches, as the processes of one training do; photographs of
about 500 px are read from a tar, decoded and cropped to 224. Scores: two checkpoints, one after the other or a process
each, as the engines of stages share them. A process is held to one core and has imported and opened everything before
the clock starts. Efficiency is the time of one process over twice that of two: 1 is as good as it gets, and what others
do on the machine meanwhile disturbs it; by CPU time, what one process uses over what two do together, it does less.
One and two take turns; medians are told.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from evaluation import checkpoint, eval_sets, facts_of, make
from findings import replace_part

BATCH, SIDES, CLASSES = 200, (480, 520), 100
WORK = ("batches", "scores")


def main() -> None:
    """Measure, print, and write the table where `--output` says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--child", nargs=4, metavar=("WORK", "RANK", "OF", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work, rank, of, folder = options.child
        return child(work, int(rank), int(of), Path(folder))
    if len(os.sched_getaffinity(0)) < 2:
        raise ValueError("this machine lets us have one core: two processes would share it")
    with tempfile.TemporaryDirectory(prefix="evergreen-scaling-") as folder:
        make(Path(folder), "photographs", CLASSES, options.images, SIDES)
        rows = [measured(work, Path(folder), options.repeats) for work in WORK]
    text = table(rows)
    print(text)
    if options.output:
        replace_part(options.output, text + "\n")


class Taken(NamedTuple):
    """What a piece of work took, and how many images it went through."""

    seconds: float
    cpu_seconds: float  # of all its processes
    images: int


def measured(work: str, folder: Path, repeats: int) -> dict:
    """Medians of one and of two processes at a kind of work, which take turns."""
    pairs = [(together(work, 1, folder), together(work, 2, folder)) for _ in range(repeats)]
    assert all(one.images == two.images for one, two in pairs), "two processes did other work than one"
    one, two = (statistics.median(taken.images / taken.seconds for taken in side) for side in zip(*pairs, strict=True))
    ratios = [one.seconds / (2 * two.seconds) for one, two in pairs]
    of_cpu = statistics.median(one.cpu_seconds / two.cpu_seconds for one, two in pairs)
    return {"work": work, "one": one, "two": two, "efficiency": statistics.median(ratios), "of_cpu": of_cpu,
            "from": min(ratios), "to": max(ratios), "repeats": repeats}  # fmt: skip


def together(work: str, processes: int, folder: Path) -> Taken:
    """What so many processes take for all of a work, from the moment when all are ready."""
    with tempfile.TemporaryDirectory(dir=folder) as homes:  # with nothing scored in them
        return _timed(work, processes, folder, Path(homes))


def _timed(work: str, processes: int, folder: Path, homes: Path) -> Taken:
    cores = sorted(os.sched_getaffinity(0))
    children = [
        subprocess.Popen([sys.executable, __file__, "--child", work, str(rank), str(processes), str(folder)], text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         env=os.environ | {"EVERGREEN_HOME": str(homes / str(rank)),
                                           "OMP_NUM_THREADS": "1", "SCALING_CORE": str(cores[rank])})
        for rank in range(processes)
    ]  # fmt: skip
    for process in children:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"a process of `{work}` ended with code {process.wait()} before it was ready")
    started = time.perf_counter()
    for process in children:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for process in children]
    seconds = time.perf_counter() - started
    for process in children:
        process.communicate()
    assert sum(images for images, _ in answers) > 0, f"the processes of `{work}` did nothing"
    return Taken(seconds, sum(cpu for _, cpu in answers), sum(images for images, _ in answers))


def child(work: str, rank: int, of: int, folder: Path) -> None:
    """One process: gets ready, waits for its start, says how many images it went through."""
    os.sched_setaffinity(0, {int(os.environ["SCALING_CORE"])})
    run = (batches if work == "batches" else scores)(rank, of, folder)
    print("ready", flush=True)
    sys.stdin.readline()
    before = time.process_time()
    images = run()
    print(json.dumps([images, time.process_time() - before]), flush=True)


def batches(rank: int, of: int, folder: Path):
    """This rank's part of every global batch of one step."""
    import pyarrow as pa

    from data_catalog import places, store
    from data_catalog.stream import StepPlan
    from models import clip
    from models.batches import StepBatches
    from models.parallel import Ranks

    places.register_source("photographs", folder)
    (facts,) = facts_of(folder, "photographs")
    count = len(facts["entries"]) // BATCH * BATCH
    offset, length, hashes = zip(*facts["entries"][:count], strict=True)
    table = pa.table({
        "iteration": pa.array([row // BATCH for row in range(count)], pa.int32()), "pool": ["update"] * count,
        "id": [f"PHOTOGRAPHS/train/{row}" for row in range(count)], "concept": ["photograph"] * count,
        "shard": ["photographs/photographs.tar"] * count, "offset": offset, "length": length,
        "hash": pa.array([bytes.fromhex(one) for one in hashes], pa.binary(32)), "text": ["a photograph"] * count,
    })  # fmt: skip
    samples = {"update": count, "buffer": 0, "pretraining": 0}
    shape = {"step": 0, "batch_size": BATCH, "iterations": count // BATCH, "samples": samples}
    plan = StepPlan(digest=store.write_table(table), **shape)
    tokenize = clip.tokenizer(checkpoint(224, 32).backbone)
    prepared = StepBatches(plan, 224, tokenize, seed=0, ranks=Ranks(rank, of))
    return lambda: sum(len(prepared.batch(number).images) for number in range(plan.iterations))


def scores(rank: int, of: int, folder: Path):
    """This process's share of two checkpoints, each scored as a stage of its own."""
    from models.evaluation import scoring

    sets, weights = eval_sets(folder, "photographs"), [checkpoint(224, 32, seed) for seed in range(2)]

    def run() -> int:
        reports = [scoring.evaluate(some, sets) for some in weights[rank::of]]
        return sum(score.samples for report in reports for score in report.scores)

    return run


def table(rows: list[dict]) -> str:
    """The rows as the page shows them."""
    what = {"batches": "training batches, read, decoded and cropped", "scores": "two checkpoints scored"}
    lines = ["| work | one process | two | efficiency | lowest to highest | by CPU time |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {what[row['work']]} | {row['one']:,.0f} images/s | {row['two']:,.0f} images/s | {row['efficiency']:.2f} "
        f"| {row['from']:.2f} to {row['to']:.2f} of {row['repeats']} | {row['of_cpu']:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
