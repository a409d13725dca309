"""Servers and other processes that are started for a while and must not outlive the one that started them."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_catalog.outage import Outage
from data_catalog.store_files import make_folder


@contextlib.contextmanager
def child(
    module: list[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    patience: float = 20,
) -> Iterator[subprocess.Popen]:
    """`python -m module...` until the end of the block; in its own session, so that Ctrl-C does not reach it first."""
    make_folder(log.parent)
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-m", *module], stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output, start_new_session=True, preexec_fn=_of_its_own, cwd=folder,
                                   env=os.environ | (environment or {}))  # fmt: skip
    try:
        yield process
    finally:
        stop(process, patience)


def stop(process: subprocess.Popen, patience: float) -> None:
    """Tell a process to end, and after `patience` seconds kill it, with its session if it leads one."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        if os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen, log: Path, seconds: float) -> None:
    """Wait until a server that was started answers; raises Outage if it ends before, or is too slow."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Outage(
                f"the server ended with code {process.returncode} before it answered; "
                f"the end of {log}:\n{log.read_text()[-1500:]}"
            )
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.05)
    raise Outage(f"the server did not answer at {url} within {seconds:g} s; see {log}, and run the command again")


def free_ports(host: str, count: int = 1) -> list[int]:
    """Ports that nobody listens on at `host`, empty for all interfaces."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((host, 0))
        return [probe.getsockname()[1] for probe in probes]


def _of_its_own() -> None:
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which a script's `&` ignores; Prefect's worker ends by nothing else


def end_with_parent() -> None:
    """For `preexec_fn`: the process is told to end when its parent has, also after kill -9 of the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
