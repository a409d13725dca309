"""The server belongs to the run: it starts with it, ends with it, and knows who died."""

import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flows import server
from flows.environment import configure
from tasks.locks import exclusive

RUN = """
import os, signal
from flows.server import api
with api() as url:
    from prefect import flow, task
    @task
    def double(n): return 2 * n
    @flow
    def work():
        [double(n) for n in range(5)]
        os.kill(os.getpid(), getattr(signal, {signal!r}, 0))
    print(url, flush=True)
    work()
"""


def run(signal: str, home: Path) -> subprocess.CompletedProcess:
    places = {
        "EVERGREEN_HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LOGGING_TO_API_ENABLED": "true",
    }
    return subprocess.run(
        [sys.executable, "-c", RUN.format(signal=signal)], env=os.environ | places, capture_output=True
    )


def states(home: Path, kind: str) -> list[str]:
    with sqlite3.connect(home / "prefect/prefect.db") as database:
        return [name for (name,) in database.execute(f"SELECT state_name FROM {kind} ORDER BY start_time")]


def test_a_killed_run_is_buried_and_a_finished_one_recorded(tmp_path):
    assert run("SIGKILL", tmp_path).returncode == -9
    assert states(tmp_path, "flow_run") == ["Running"]
    finished = run("none", tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert states(tmp_path, "flow_run") == ["Crashed", "Completed"]
    assert states(tmp_path, "task_run")[-5:] == ["Completed"] * 5
    with pytest.raises(OSError):  # the server went with its process
        server._get(f"{finished.stdout.decode().strip()}/health")


def test_a_port_in_use_is_named_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port {port} .*`mlflow_port`"):
            server.serve_ui(port=server._any_port(), mlflow_port=port)


def test_a_given_api_is_used(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    with server.api() as url:
        assert url == "http://elsewhere/api"


def test_a_dead_advertisement_is_not_believed(tmp_path):
    (tmp_path / "home/prefect").mkdir(parents=True)
    (tmp_path / "home/prefect/server.json").write_text(
        f'{{"url": "http://127.0.0.1:{server._any_port()}/api", "pid": 1}}'
    )
    assert server.running_server() is None


def test_only_the_unheld_sessions_are_dead(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(server, "_post", lambda url, body: asked.append(body) or [])
    dead, alive = tmp_path / "home/prefect/sessions/dead", tmp_path / "home/prefect/sessions/alive"
    with exclusive(alive):
        dead.touch()
        server._bury_dead_sessions("http://api")
    assert not dead.exists() and alive.exists() and "session:alive" not in str(asked)


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "DEBUG")
    monkeypatch.setenv("EVERGREEN_STORE", "relative")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    configure()
    assert os.environ["PREFECT_LOGGING_LEVEL"] == "DEBUG" and Path(os.environ["EVERGREEN_STORE"]).is_absolute()
    assert os.environ["MLFLOW_TRACKING_URI"].startswith(f"sqlite:///{os.environ['EVERGREEN_HOME']}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ("", None),
        ("a:b", "{here}/a:b"),
        ("ducklake:lake", "ducklake:{here}/lake"),
        ("ducklake:postgres:dbname=a", "ducklake:postgres:dbname=a"),
    ],
)
def test_a_place_does_not_depend_on_where_a_child_runs_and_an_empty_one_is_none(given, becomes, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERGREEN_CATALOG", given)
    configure()
    assert os.environ.get("EVERGREEN_CATALOG") == (becomes and becomes.format(here=tmp_path))
