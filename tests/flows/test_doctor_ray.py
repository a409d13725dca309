"""What the doctor says of Ray, where a configuration asks for it."""

import socket

import pytest

from flows.doctor import ray_cluster
from flows.doctor.findings import Asked
from flows.experiment import parse
from tests.flows.conftest import raw_experiment

NAME = "Ray of execution.training"


def looked(address: str = "local", **environment: str) -> dict[str, str]:
    training = {"kind": "ray", "workers": 2, "address": address}
    config = parse(raw_experiment(execution={"training": training}), "test")
    return {each.name: each.state for each in ray_cluster.ray(Asked(environment, config))}


@pytest.fixture
def nobody_at_home(monkeypatch, tmp_path):
    """A user who has no token."""
    monkeypatch.setenv("HOME", str(tmp_path))


def test_a_configuration_without_ray_is_not_asked(experiment):
    assert [*ray_cluster.ray(Asked({}))] == [*ray_cluster.ray(Asked({}, experiment))] == []


def test_processes_of_ones_own_need_no_token(nobody_at_home):
    assert looked() == {NAME: "ok"}


def test_a_missing_package_fails(monkeypatch):
    monkeypatch.setattr(ray_cluster.util, "find_spec", lambda name: None)
    assert looked() == {NAME: "fail"}


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nowhere"])
def test_a_cluster_that_does_not_answer_fails(address):
    assert looked(address, RAY_AUTH_TOKEN="abc") == {NAME: "fail"}


def test_a_shared_cluster_needs_a_token(nobody_at_home, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert looked(address) == {NAME: "ok", f"token of {NAME}": "warn"}
        assert looked(address, RAY_AUTH_TOKEN="abc") == {NAME: "ok"}
        absent = str(tmp_path / "absent")
        assert looked(address, RAY_AUTH_TOKEN_PATH=absent) == {NAME: "ok", f"token of {NAME}": "fail"}
