"""Launches: what a process fails of is told as its own, and a killed one costs no more than it had not saved."""

import os
import signal
from pathlib import Path

import pytest

from models.launching import Alone, Job, LaunchFailed, Torchrun
from models.sharding import check_method
from models.updates import UpdateSpec
from models.updates.bitfit import Bitfit
from models.updates.mer import Mer
from tests.models.test_parallel import apart, of_spec


def job_of(init, plan, spec: UpdateSpec) -> Job:
    return Job(init=init, data=plan, spec=spec, seed=3)


def workers() -> list[int]:
    """The processes that train for this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            mine = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"models.launched" in words and b"RANK=" in mine and os.environ["EVERGREEN_HOME"].encode() in mine:
            found.append(int(folder.name))
    return sorted(found)


def test_a_killed_process_ends_the_attempt_and_one_process_goes_on(tiny, step_plan, monkeypatch):
    job = job_of(tiny, step_plan, of_spec({"ema": 0.5}))
    undisturbed = Alone().run(job, None)
    monkeypatch.setenv("EVERGREEN_SAVE_ITERATIONS", "1")
    seen = []

    def kill(done, total, loss):
        seen.append(done)
        if done == 4:
            os.kill(workers()[-1], signal.SIGKILL)

    with pytest.raises(LaunchFailed, match="run it again and it goes on"):
        Torchrun(processes=2).run(job, kill)
    assert 4 in seen and 8 not in seen and not workers()
    again = []
    resumed = Alone().run(job, lambda done, total, loss: again.append(done))
    assert min(again) > 4 and apart(undisturbed.checkpoint, resumed.checkpoint) < 1e-10


def test_what_a_process_refuses_is_told_as_here(tiny, step_plan):
    with pytest.raises(ValueError, match="8 rows, which 3 processes cannot share equally"):
        Torchrun(processes=3).run(job_of(tiny, step_plan, UpdateSpec()), None)


def test_a_method_that_needs_whole_weights_is_refused_in_shards():
    with pytest.raises(ValueError, match="'mer' computes with whole weights"):
        check_method(Mer())
    check_method(Bitfit())


def test_several_machines_need_an_allocation(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ValueError, match="no SLURM allocation"):
        Torchrun(processes=1, nodes=2).command()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    command = Torchrun(processes=4, nodes=2).command()
    assert command[0] == "srun" and {"--nnodes=2", "--nproc-per-node=4", "--rdzv-id=7"} <= {*command}
