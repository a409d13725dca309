import sys
from contextlib import contextmanager

import pytest

from flows import cli
from flows.experiment import parse
from flows.ingest import ingest_experiment
from flows.preparing import prepare
from tasks.journal import journal


def raw_experiment(**changes) -> dict:
    """The demo's shape at a hundredth of its size."""
    broad = ["SHAPES", "COUNTS", "BLENDS", "TEXTURES", "SCENES"]
    return {
        "name": "tiny",
        "sources": [
            {"kind": "synthetic", "name": "demo", "pretraining_images": 60, "adaptation_images": 130, "test_images": 12}
        ],
        "pretraining": broad,
        "start": {"kind": "scratch", "model": "demo/model", "iterations": 3, "batch_size": 16, "update": {"lr": 1e-3}},
        "stream": {"ordering": {"kind": "from_file", "path": "demo/stream_random_1.json"}, "steps": 2},
        "batch_size": 16,
        "budget": {"kind": "iterations", "per_step": 2},
        "evaluation": {"retention": broad},
        "past_weights": [0, 1],
        "recipes": {
            "plain": {"mixture": {"update": 1, "buffer": 0, "pretraining": 0}},
            "merged": {"update": {"method": {"kind": "lora", "rank": 2}}, "merge": {"init": "ema", "deploy": "ema"}},
        },
    } | changes


@contextmanager
def living_in(home):
    """What a module's fixture runs has this home; yields the patches, which end with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_HOME", str(home))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow.db'}")
        yield patch


@pytest.fixture
def experiment():
    """A parsed tiny experiment."""
    return parse(raw_experiment(), "test")


@pytest.fixture
def evergreen(monkeypatch, capsys):
    """Runs the command in this process; returns (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evergreen", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capsys.readouterr()

    return run


def prepared_alone(experiment):
    """What all recipes of an experiment share, prepared by a flow that does nothing else."""
    from prefect import flow

    @flow
    def only_prepare():
        with journal():
            return prepare(experiment, ingest_experiment(experiment))

    return only_prepare()
