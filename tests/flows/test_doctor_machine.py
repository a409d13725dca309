"""What the doctor says of this machine: memory, files, clock, GPUs and what trains on them."""

import errno
import fcntl
import resource
from types import SimpleNamespace

import pytest

from flows.doctor import machine, storage
from flows.doctor.findings import Asked
from flows.experiment import parse
from tests.flows.conftest import raw_experiment

NOTHING = Asked({})


def only(findings):
    (found,) = findings
    return found


def test_little_memory_is_told(monkeypatch):
    monkeypatch.setattr(machine, "memory_left", lambda: 10**9)
    assert only(machine.memory(NOTHING)).state == "warn"


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.memory_left() == 600000


def test_a_low_limit_of_open_files_is_told(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, 4096))
    found = only(machine.open_files(NOTHING))
    assert found.state == "warn" and "ulimit -n 1024" in found.do


def test_a_clock_before_the_program_fails(monkeypatch):
    monkeypatch.setattr(machine.time, "time", lambda: 0.0)
    assert only(machine.clock(NOTHING)).state == "fail"


def test_a_clock_that_moves_is_told(monkeypatch):
    now, moved = machine.time.time(), iter([0, 3600, 3600, 3600])
    monkeypatch.setattr(machine.time, "time", lambda: now + next(moved))
    found = only(machine.clock(NOTHING))
    assert found.state == "warn" and "+3600 s" in found.found


def devices(monkeypatch, *capabilities, nccl=True):
    """A torch that sees GPUs of these compute capabilities."""
    import torch

    monkeypatch.setattr(machine, "has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(capabilities))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(capabilities))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(
        name="H200", total_memory=150 * 10**9, major=capabilities[index][0], minor=capabilities[index][1]))  # fmt: skip
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: nccl)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 5))


def test_gpus_are_told_with_what_they_can(monkeypatch):
    devices(monkeypatch, (9, 0), (7, 5))
    found = {each.name: each for each in machine.gpus(NOTHING)}
    assert found["GPU 0"].found.startswith("H200, 150.0 GB, compute capability 9.0, bf16")
    assert found["GPU 1"].state == "warn" and found["NCCL"].found == "2.27.5"


def test_a_driver_without_gpus_for_torch_is_told(monkeypatch):
    devices(monkeypatch)
    assert only(machine.gpus(Asked({"CUDA_VISIBLE_DEVICES": ""}))).state == "warn"


def test_gpus_without_nccl_are_told(monkeypatch):
    devices(monkeypatch, (9, 0), nccl=False)
    assert [each.state for each in machine.gpus(NOTHING)] == ["ok", "warn"]


@pytest.mark.parametrize("training, state", [
    ({"kind": "alone"}, "ok"), ({"kind": "torchrun", "processes": 2}, "ok"), ({"kind": "torchrun", "nodes": 2}, "fail"),
])  # fmt: skip
def test_training_is_told_whether_it_can_be_started(monkeypatch, training, state):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    config = parse(raw_experiment(execution={"training": training}), "test")
    assert only(machine.training(Asked({}, config))).state == state


def test_a_file_system_without_locks_fails(monkeypatch, tmp_path):
    def refuse(*given):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert only(storage.locks(NOTHING)).state == "fail"


def test_locks_that_exclude_nobody_fail(monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *given: None)
    assert "lets two in" in only(storage.locks(NOTHING)).found
