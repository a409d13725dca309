"""A Prefect API for the life of this process, and the user interfaces of a home.

Prefect's own ephemeral server forgets most task runs when the process ends and is left behind by a killed one.
"""

import base64
import contextlib
import importlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from data_catalog.outage import Outage
from data_catalog.places import home
from data_catalog.processes import child, free_ports, wait_until_healthy
from data_catalog.store_files import make_folder, write_atomically
from flows.environment import configure
from tasks.locks import exclusive, is_held

START_SECONDS = 180  # an idle laptop needs 6, the first start 14
DRAIN_SECONDS = 30
SETTLED_SECONDS = 1.5  # longer than the pauses of flows/environment.py between two writes of task runs and logs
STUCK_SECONDS = 6  # task runs of an interrupted flow may never get a last state
HOST = "127.0.0.1"
TRAINING, LIGHT = "evergreen-gpu", "evergreen-cpu"  # work pools
LIVING = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]


@contextlib.contextmanager
def api(ui: bool = False, port: int | None = None, meanwhile: Callable[[], object] | None = None) -> Iterator[str]:
    """A Prefect API for the block; yields its URL.

    PREFECT_API_URL if set, else the running `evergreen ui` of this home, else a server of our own that ends with the
    block or with this process, whichever comes first. `meanwhile` runs while that server starts: pass slow imports.
    Flow runs that a killed process of this home left `Running` become `Crashed`. Raises ValueError if `port` is taken.
    """
    configure()
    if "PREFECT_API_URL" in os.environ:
        yield os.environ["PREFECT_API_URL"]
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(_exit_on_sigterm())
        with exclusive(_folder() / "starting.lock"):
            tag = stack.enter_context(_session())
            url = running_server() or stack.enter_context(_prefect_server(ui, port or _any_port(), meanwhile))
            _bury_dead_sessions(url)
        stack.enter_context(_client_settings(url, tag))
        try:
            yield url
        finally:
            _drain(url, tag)


def serve_ui(port: int = 4200, mlflow_port: int = 5000, announce: Callable[[str], object] = print) -> None:
    """Serve the pages of Prefect and MLflow on this home until Ctrl-C; raises ValueError if a port is taken."""
    configure()
    if url := running_server():
        raise ValueError(
            f"the pages of {home()} are already served, see {url.removesuffix('/api')}; "
            "stop that `evergreen ui` first, or set another EVERGREEN_HOME"
        )
    _require_free(port, "port")
    _require_free(mlflow_port, "mlflow_port")
    with _exit_on_sigterm(), contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        with exclusive(_folder() / "starting.lock"):
            stack.enter_context(_prefect_server(True, port, None))
            _bury_dead_sessions(f"http://{HOST}:{port}/api")
            mlflow = stack.enter_context(_mlflow_server(mlflow_port))
        announce(f"Prefect http://{HOST}:{port}   MLflow http://{HOST}:{mlflow_port}   Ctrl-C stops both")
        mlflow.wait()
        raise Outage(f"the MLflow server ended with code {mlflow.returncode}; see {home() / 'mlflow-server.log'}")


def running_server() -> str | None:
    """The API of the `evergreen ui` that serves this home, if one does."""
    if not _advertisement().is_file():
        return None
    try:
        url = json.loads(_advertisement().read_text())["url"]
        found = _get(f"{url}/admin/settings")["home"]
    except (OSError, ValueError, KeyError, TypeError):  # nobody answers, or another program took the port
        return None
    return url if found == os.environ["PREFECT_HOME"] else None  # else another home took it


def api_headers() -> dict[str, str]:
    """Of a request to a Prefect API: with the secret that a team's asks for, from where Prefect itself takes it."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("PREFECT_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    elif pair := os.environ.get("PREFECT_API_AUTH_STRING"):
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers


@contextlib.contextmanager
def _prefect_server(ui: bool, port: int, meanwhile: Callable[[], object] | None) -> Iterator[str]:
    _require_free(port, "port")
    url = f"http://{HOST}:{port}/api"
    command = ["prefect", "server", "start", "--host", HOST, "--port", str(port), "--ui" if ui else "--no-ui"]
    pages = {"PREFECT_SERVER_UI_API_URL": url}  # else they ask port 4200, whatever port they come from
    with child(command, _folder() / "server.log", pages) as process:
        importlib.import_module("prefect.flow_engine")  # 2 s that the server needs anyway
        if meanwhile:
            meanwhile()
        wait_until_healthy(f"{url}/health", process, _folder() / "server.log", START_SECONDS)
        if ui:
            write_atomically(_advertisement(), json.dumps({"url": url, "pid": process.pid}).encode())
        try:
            yield url
        finally:
            if ui:
                _advertisement().unlink(missing_ok=True)


@contextlib.contextmanager
def _mlflow_server(port: int) -> Iterator[subprocess.Popen]:
    log = home() / "mlflow-server.log"
    command = ["mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1",
               "--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"],
               "--default-artifact-root", (home() / "mlartifacts").as_uri()]  # fmt: skip
    with child(command, log) as process:
        wait_until_healthy(f"http://{HOST}:{port}/health", process, log, START_SECONDS)
        yield process


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that children are stopped and records written."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def _session() -> Iterator[str]:
    """The tag of all flow runs of this process; its lock file tells the living from the dead."""
    name = secrets.token_hex(4)
    with exclusive(_sessions() / name):
        yield f"session:{name}"
        (_sessions() / name).unlink()


@contextlib.contextmanager
def _client_settings(url: str, tag: str) -> Iterator[None]:
    from prefect import tags
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    os.environ["PREFECT_API_URL"] = url
    try:  # without a heartbeat a flow ends a second earlier; no environment variable can say so
        with temporary_settings({PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), tags(tag):
            yield
    finally:
        del os.environ["PREFECT_API_URL"]


def _bury_dead_sessions(url: str) -> None:
    """Set `Crashed` what a killed process of this home left unfinished."""
    make_folder(_sessions())
    dead = [path for path in _sessions().iterdir() if not is_held(path)]
    if not dead:
        return
    of_the_dead = {"tags": {"any_": [f"session:{path.name}" for path in dead]}}
    crashed = {"type": "CRASHED", "name": "Crashed", "message": "its process was killed"}
    for kind in ("task_runs", "flow_runs"):
        query = {"flow_runs": of_the_dead, kind: {**({} if kind == "task_runs" else of_the_dead), **_in_state(LIVING)}}
        while left := _post(f"{url}/{kind}/filter", query):
            for run in left:
                _post(f"{url}/{kind}/{run['id']}/set_state", {"state": crashed, "force": True})
    for path in dead:
        path.unlink(missing_ok=True)  # another start may have buried it at the same time


def _drain(url: str, tag: str) -> None:
    """Wait until the server has written down all task runs of this session: it does so behind our back."""
    ours = {"flow_runs": {"tags": {"all_": [tag]}}}
    if not _post(f"{url}/flow_runs/count", ours):
        return
    deadline, settled, seen = time.monotonic() + DRAIN_SECONDS, 0.0, None
    while time.monotonic() < deadline and (seen is None or time.monotonic() < settled):
        total = _post(f"{url}/task_runs/count", ours)
        unfinished = _post(f"{url}/task_runs/count", {**ours, "task_runs": _in_state(LIVING)})
        if (total, unfinished) != seen:
            seen, settled = (total, unfinished), time.monotonic() + (STUCK_SECONDS if unfinished else SETTLED_SECONDS)
        time.sleep(0.1)


def _in_state(types: list[str]) -> dict:
    return {"state": {"type": {"any_": types}}}


def _get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def _post(url: str, body: dict) -> object:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: a port just left is free
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ValueError(
                f"port {port} on {HOST} cannot be used ({error.strerror}); "
                f"stop the program that listens there, or choose another `{option}`"
            ) from error


def _any_port() -> int:
    return free_ports(HOST)[0]


def _folder() -> Path:
    return home() / "prefect"


def _sessions() -> Path:
    return _folder() / "sessions"


def _advertisement() -> Path:
    return _folder() / "server.json"
