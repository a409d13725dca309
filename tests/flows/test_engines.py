"""Where stages run: engines as they are written down, and what they leave as it is."""

import os
import pickle

import pytest
from prefect import flow
from prefect.context import FlowRunContext
from pydantic import TypeAdapter, ValidationError

from flows.engines import TASKS, AnyEngine, Threads, carried_out_by, told_to_workers
from flows.experiment import parse
from models.ray_cluster import LOOPBACK, arguments
from tasks import caption, compose, embed, evaluate, ingest
from tasks.caching import cached
from tests.flows.conftest import raw_experiment

RAY = {"kind": "ray", "workers": 2, "cpus": {"captions": 2}, "gpus": {"embeddings": 0.5}}


def engine(**raw):
    return TypeAdapter(AnyEngine).validate_python(raw)


def test_stages_run_on_four_threads_unless_told_otherwise():
    assert parse(raw_experiment(), "test").execution.stages == Threads(workers=4)


def test_a_task_of_a_stage_asks_ray_for_what_the_stage_is_given():
    options = engine(**RAY).runner()._options
    assert options["caption_dataset"] == {"num_cpus": 2, "num_gpus": 0, "max_retries": 3}
    assert options["embed_dataset"] == {"num_cpus": 1, "num_gpus": 0.5, "max_retries": 3}
    assert "compose_step" not in options


def test_where_there_is_a_gpu_models_see_it_in_workers_too(monkeypatch):
    monkeypatch.setattr("models.embeddings.device_kind", lambda: "cuda")
    options = engine(kind="ray", gpus={"captions": 1}).runner()._options
    asked = {name: options[name]["num_gpus"] for name in ("ingest_dataset", "caption_dataset", "embed_dataset")}
    assert asked == {"ingest_dataset": 0, "caption_dataset": 1, "embed_dataset": 0.25}


def test_ray_is_never_left_to_find_a_cluster():
    local, other = (engine(kind="ray", address=address).runner().init_kwargs for address in ("local", "auto"))
    assert local["address"] == "local" and other["address"] == "auto"


def test_a_cluster_of_our_own_binds_to_the_loopback(monkeypatch):
    monkeypatch.delenv(LOOPBACK, raising=False)
    arguments("auto")
    assert LOOPBACK not in os.environ
    arguments("local")
    assert os.environ[LOOPBACK] == "0"


@pytest.mark.parametrize("raw, said", [
    ({"kind": "ray", "address": "head:6379", "workers": 2}, "as many as its machines offer"),
    ({"kind": "ray", "gpus": {"embeddings": 1.5}}, "a share of one GPU"),
    ({"kind": "ray", "workers": 2, "cpus": {"ingest": 4}}, "never starts"),
    ({"kind": "ray", "cpus": {"updates": 1}}, "ingest"),
    ({"kind": "ray", "address": "ray://me:word@head:10001"}, "password"),
    ({"kind": "threads", "workers": 0}, "greater than or equal to 1"),
    ({"kind": "dask"}, "threads"),
])  # fmt: skip
def test_what_cannot_be_is_refused(raw, said):
    with pytest.raises(ValidationError, match=said):
        engine(**raw)


def test_every_task_of_a_stage_is_there_and_travels_by_name():
    modules = (caption, compose, embed, evaluate, ingest)
    for name in (task for tasks in TASKS.values() for task in tasks):
        task = next(getattr(module, name) for module in modules if hasattr(module, name))
        assert pickle.loads(pickle.dumps(task)) is task


def test_a_task_that_workers_cannot_find_does_not_travel():
    with pytest.raises(pickle.PicklingError, match="no task of an installed module"):
        pickle.dumps(cached(revision=1)(lambda: 1))


def test_workers_are_told_places_and_switches_but_nothing_secret():
    given = {"EVERGREEN_HOME": "/h", "RAY_USAGE_STATS_ENABLED": "0", "EVERGREEN_CAPTIONS_API_KEY": "k", "PATH": "/bin",
             "EVERGREEN_CATALOG": "postgres://me:word@db/lake", "PREFECT_API_URL": "http://127.0.0.1:1/api",
             "AWS_SECRET_ACCESS_KEY": "s"}  # fmt: skip
    assert set(told_to_workers(given)) == {"EVERGREEN_HOME", "RAY_USAGE_STATS_ENABLED", "PREFECT_API_URL"}


def test_a_flow_submits_to_the_engine_of_its_configuration(prefect_backend):
    @flow
    def some(workers: int) -> int:
        with carried_out_by(Threads(workers=workers)):
            return FlowRunContext.get().task_runner._max_workers

    assert some(3) == 3
