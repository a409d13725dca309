"""What the doctor says of the Prefect server, MLflow and their databases."""

import contextlib
import json
import sqlite3
import sys
import threading
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from time import time

import pytest

from flows.doctor import databases, prefect_server
from flows.doctor.findings import Asked

PREFECT, MLFLOW = metadata.version("prefect"), metadata.version("mlflow")
CLOSED = "127.0.0.1:9"


@contextlib.contextmanager
def answering(answers: dict[str, object], status: int = 200, behind: float = 0, password: str | None = None):
    """A server with these answers by path; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            refused = password is not None and self.headers.get("Authorization") != password
            self.send_response_only(401 if refused else status if self.path in answers else 404)
            self.send_header("Date", formatdate(time() - behind, usegmt=True))
            self.end_headers()
            self.wfile.write(json.dumps(answers.get(self.path)).encode())

        do_POST = do_GET

        def log_message(self, *given):
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def states(findings) -> dict[str, str]:
    return {each.name: each.state for each in findings}


def looked(check, variable: str, address: str) -> dict[str, str]:
    return states(check(Asked({variable: address})))


@pytest.mark.parametrize("version, state", [(PREFECT, "ok"), ("3.8.0", "warn"), ("3.7.9", "fail"), (None, "fail")])
def test_the_server_has_the_version_of_the_client(version, state):
    with answering({"/api/admin/version": version}) as place:
        found = looked(prefect_server.prefect_server, "PREFECT_API_URL", f"http://{place}/api")
    assert found == {"Prefect server": state, "clock of the Prefect server": "ok"}


def test_a_server_that_does_not_answer_fails():
    assert looked(prefect_server.prefect_server, "PREFECT_API_URL", f"http://{CLOSED}/api") == {
        "Prefect server": "fail"
    }


def test_an_address_that_is_none_fails():
    assert looked(prefect_server.prefect_server, "PREFECT_API_URL", "127.0.0.1/api") == {"Prefect server": "fail"}


def test_a_server_that_wants_a_password_is_given_it(monkeypatch):
    with answering({"/api/admin/version": PREFECT}, password="Basic YTpi") as place:
        url = f"http://{place}/api"
        assert looked(prefect_server.prefect_server, "PREFECT_API_URL", url)["Prefect server"] == "fail"
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
        assert looked(prefect_server.prefect_server, "PREFECT_API_URL", url)["Prefect server"] == "ok"


@pytest.mark.parametrize("behind, state", [(0, "ok"), (60, "warn"), (3600, "fail")])
def test_a_wrong_clock_is_told(behind, state):
    with answering({"/api/admin/version": PREFECT}, behind=behind) as place:
        found = looked(prefect_server.prefect_server, "PREFECT_API_URL", f"http://{place}/api")
    assert found["clock of the Prefect server"] == state


def deployed(workers: list, limit: int | None) -> dict:
    """The answers of a server with one deployment."""
    return {
        "/api/deployments/filter": [{"work_pool_name": "evergreen-gpu"}],
        "/api/work_pools/filter": [{"name": "evergreen-gpu", "concurrency_limit": limit}],
        "/api/work_pools/evergreen-gpu/workers/filter": workers,
    }


def test_a_pool_needs_a_worker_that_polls_and_a_limit():
    with answering(deployed([{"name": "gone", "status": "OFFLINE"}], None)) as place:
        found = looked(prefect_server.work, "PREFECT_API_URL", f"http://{place}/api")
    assert found == {"work pool evergreen-gpu": "warn", "limit of evergreen-gpu": "warn"}
    with answering(deployed([{"name": "here", "status": "ONLINE"}], 1)) as place:
        assert looked(prefect_server.work, "PREFECT_API_URL", f"http://{place}/api") == {
            "work pool evergreen-gpu": "ok"
        }


def test_a_server_that_does_not_tell_its_pools_is_told():
    with answering({}) as place:
        assert looked(prefect_server.work, "PREFECT_API_URL", f"http://{place}/api") == {"work pools": "warn"}


@pytest.mark.parametrize("status, state", [(200, "warn"), (401, "fail"), (500, "fail")])
def test_mlflow_answers_with_its_version(status, state):
    with answering({"/version": "0.1"}, status) as place:
        found = looked(databases.mlflow, "MLFLOW_TRACKING_URI", f"http://{place}")
    assert found == {"MLflow": state, "clock of MLflow": "ok"}
    assert looked(databases.mlflow, "MLFLOW_TRACKING_URI", f"http://{CLOSED}") == {"MLflow": "fail"}


def test_a_file_of_mlflow_opens_or_fails(tmp_path):
    path = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    assert looked(databases.mlflow, "MLFLOW_TRACKING_URI", f"sqlite:///{path}") == {"MLflow": "ok"}
    path.write_bytes(b"no database" * 100)
    assert looked(databases.mlflow, "MLFLOW_TRACKING_URI", f"sqlite:///{path}") == {"MLflow": "fail"}


def test_a_database_that_does_not_answer_fails():
    variable = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
    (found,) = databases.databases(Asked({variable: f"postgresql+asyncpg://me:pw@{CLOSED}/prefect"}))
    assert found.state == "fail" and found.found.startswith(f"{CLOSED}/prefect: ConnectionRefused")


def test_a_missing_driver_of_a_database_fails(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    monkeypatch.setattr(databases.util, "find_spec", lambda name: None)
    (found,) = databases.databases(Asked({"MLFLOW_BACKEND_STORE_URI": f"postgresql://me:pw@{CLOSED}/mlflow"}))
    assert found.state == "fail" and "evergreen[team]" in found.do


def test_other_databases_are_left_to_their_own_tools():
    (found,) = databases.databases(Asked({"MLFLOW_BACKEND_STORE_URI": "mysql://host/mlflow"}))
    assert found.state == "warn"
