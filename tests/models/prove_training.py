"""Proves what training in several processes promises, on launches that really run and processes that really die.

python -m pytest -s tests/models/prove_training.py        (part of `make prove`, minutes)
"""

import os
import signal
import time

import pyarrow as pa
import pytest

from data_catalog.store import read_table, write_table
from models.launching import Alone, LaunchFailed, RayTrain, Torchrun
from tests.models.test_launching import job_of, workers
from tests.models.test_parallel import apart, of_spec

FARTHEST = 1e-9  # of any weight after 40 iterations in double precision


@pytest.fixture
def job(tiny, step_plan):
    """Forty iterations."""
    table = pa.concat_tables([read_table(step_plan.digest)] * 5)
    iterations = pa.array([row // 8 for row in range(320)], pa.int32())
    table = table.set_column(table.column_names.index("iteration"), "iteration", iterations)
    samples = {"update": 320, "buffer": 0, "pretraining": 0}
    plan = step_plan.model_copy(update={"digest": write_table(table), "iterations": 40, "samples": samples})
    return job_of(tiny, plan, of_spec({}))


@pytest.fixture
def alone(job):
    """What one process makes of it, undisturbed."""
    return Alone().run(job, None).checkpoint


def tell(what: str, distance: float, began: float) -> None:
    print(f"\n{what:<52} {distance:.1e} from one process, {time.monotonic() - began:.0f} s", flush=True)
    assert distance <= FARTHEST


@pytest.mark.parametrize("launch", [Torchrun(processes=2), RayTrain(workers=2, gpus=0)], ids=["torchrun", "ray"])
def test_two_processes_are_as_one(job, alone, launch):
    began = time.monotonic()
    tell(f"{launch.kind} x2", apart(alone, launch.run(job, None).checkpoint), began)


@pytest.mark.parametrize("launch", [Torchrun(processes=2), RayTrain(workers=2, gpus=0)], ids=["torchrun", "ray"])
@pytest.mark.parametrize("then", [Torchrun(processes=2), Alone()], ids=["two again", "one"])
def test_a_killed_process_costs_what_was_not_saved(job, alone, launch, then, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SAVE_ITERATIONS", "1")
    began, resumed = time.monotonic(), []
    with pytest.raises(LaunchFailed):
        launch.run(job, _at(12, lambda: os.kill(_trainers(launch)[-1], signal.SIGKILL)))
    ended = time.monotonic() - began
    made = then.run(job, lambda done, total, loss: resumed.append(done))
    assert min(resumed) >= 12
    tell(f"{launch.kind} x2, one killed at 12, {ended:.0f} s; then {then.kind}", apart(alone, made.checkpoint), began)


@pytest.mark.parametrize("first", [True, False], ids=["in shards first", "whole first"])
def test_a_step_begun_in_shards_goes_on_whole_and_the_other_way(job, alone, first, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SAVE_ITERATIONS", "1")
    began = time.monotonic()
    with pytest.raises(LaunchFailed):
        Torchrun(processes=2, sharded=first).run(
            job, _at(12, lambda: os.kill(_trainers(Torchrun())[-1], signal.SIGKILL))
        )
    made = Torchrun(processes=2, sharded=not first).run(job, None)
    tell(
        f"{'in shards' if first else 'whole'}, one killed at 12, then the other way",
        apart(alone, made.checkpoint),
        began,
    )


def test_a_hung_process_ends_the_attempt(job, alone, monkeypatch):
    monkeypatch.setenv("EVERGREEN_SAVE_ITERATIONS", "1")
    began, stopped = time.monotonic(), []

    def stop():
        os.kill(_trainers(Torchrun())[-1], signal.SIGSTOP)
        stopped.append(time.monotonic())

    with pytest.raises(LaunchFailed):
        Torchrun(processes=2, hang_seconds=40).run(job, _at(12, stop))
    waited = time.monotonic() - stopped[0]
    print(f"\na stopped process: the attempt ended {waited:.0f} s later, with hang_seconds: 40")
    assert waited < 90  # 40 s until the other gives up, 30 s until torchrun kills what does not end
    tell("hung, then one process", apart(alone, Alone().run(job, None).checkpoint), began)


def test_the_launcher_killed_leaves_no_process(job, alone):
    """As a killed worker of Prefect would."""
    import subprocess
    import sys

    script = (
        "import sys; from models.launching import Job, Torchrun; job = Job.model_validate_json(sys.stdin.read()); "
        "Torchrun(processes=2).run(job, lambda *now: print(now[0], flush=True))"
    )
    environment = os.environ | {"EVERGREEN_SAVE_ITERATIONS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               env=environment, text=True)  # fmt: skip
    process.stdin.write(job.model_dump_json())
    process.stdin.close()
    while int(process.stdout.readline()) < 12:
        pass
    began = time.monotonic()
    process.kill()
    while workers():
        assert time.monotonic() - began < 60, "processes outlive their launcher"
        time.sleep(0.2)
    print(f"\nlauncher killed: its processes were gone after {time.monotonic() - began:.1f} s")
    tell("launcher killed, then one process", apart(alone, Alone().run(job, None).checkpoint), began)


def _at(iteration: int, do):
    """A listener that does something once, after an iteration."""
    done_so = []

    def listen(done, total, loss):
        if done >= iteration and not done_so:
            done_so.append(done)
            do()

    return listen


def _trainers(launch) -> list[int]:
    """The processes that train: by name under Ray, whose workers have no command line of their own."""
    return workers() if launch.kind == "torchrun" else _named(b"train_worker", b"RayTrainWorker")


def _named(*names: bytes) -> list[int]:
    from pathlib import Path

    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if line.startswith(b"ray::") and any(name in line for name in names):
            found.append(int(folder.name))
    return sorted(found)
