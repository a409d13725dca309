"""A whole run killed in the middle of an update, and run again: the same weights as if nothing had happened."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.continual import continual_pretrain
from flows.experiment import load
from models.evaluation.record import find_record, load_record, run_name
from tests.flows.conftest import raw_experiment


def raw() -> dict:
    """Two steps of one recipe that keeps a memory, long enough to be killed in."""
    method = {"kind": "ewc", "fisher_samples": 32}
    return raw_experiment(
        budget={"kind": "iterations", "per_step": 16}, recipes={"kept": {"update": {"method": method}}}
    )


def start(config: Path, home: Path) -> subprocess.Popen:
    """`evergreen run` on a home of its own, saving after every iteration."""
    places = {"EVERGREEN_HOME": str(home), "PREFECT_HOME": str(home / "prefect"), "EVERGREEN_SAVE_ITERATIONS": "1",
              "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'mlflow.db'}"}  # fmt: skip
    own = {name: value for name, value in os.environ.items() if name != "EVERGREEN_SOURCES"}
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", str(config), "--json"]
    return subprocess.Popen(command, env=own | places, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def kill_in_an_update(process: subprocess.Popen, home: Path, iteration: int) -> None:
    """Kill the process once a state from `iteration` on is stored."""
    while process.poll() is None:
        states = [name for _, _, names in os.walk(home / "store/unfinished") for name in names]
        if any(name.endswith(".pt") and int(name[:-3]) >= iteration for name in states):
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
    raise AssertionError(f"ended before it could be killed: {process.stderr.read().decode()[-2000:]}")


@pytest.mark.usefixtures("prefect_backend")
def test_a_run_killed_within_an_update_ends_in_the_same_weights(tmp_path, monkeypatch):
    config, home = tmp_path / "experiment.yaml", tmp_path / "killed"
    config.write_text(yaml.safe_dump(raw()))
    undisturbed = load_record(continual_pretrain(load(config)).digest)
    kill_in_an_update(start(config, home), home, 7)
    again = start(config, home)
    printed, complained = again.communicate(timeout=300)
    assert again.returncode == 0, complained.decode()[-2000:]
    assert b'"recipes"' in printed and not list(home.glob("store/unfinished/*"))
    monkeypatch.setenv("EVERGREEN_HOME", str(home))
    record = find_record(run_name(undisturbed.name, undisturbed.seed))
    digests = [[(step.expert, step.deployed) for step in r.recipes[0].steps] for r in (record, undisturbed)]
    assert digests[0] == digests[1]
