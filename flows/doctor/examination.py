"""All checks of `evergreen doctor`, side by side, each with a time after which it counts as hung."""

import os
import queue
import threading
import time
from collections.abc import Sequence

from flows.doctor import databases, machine, packages, prefect_server, ray_cluster, storage
from flows.doctor.findings import Asked, Check, Finding, fail, without_secrets

LONGEST = 20.0  # seconds for any check: servers get 3 per question, sources list their files
CHECKS: tuple[Check, ...] = (
    packages.python, packages.packages, packages.torch_pair, packages.telemetry,
    storage.folders, storage.locks, storage.room, storage.catalog, storage.sources, storage.storage_clock,
    machine.memory, machine.open_files, machine.clock, machine.gpus, machine.training, ray_cluster.ray,
    prefect_server.prefect_server, prefect_server.work, databases.mlflow, databases.databases,
)  # fmt: skip


def examine(asked: Asked, checks: Sequence[Check] = CHECKS, longest: float = LONGEST) -> list[Finding]:
    """What all checks found, in their order, without secrets; one that hangs or breaks is a finding itself."""
    answers: queue.SimpleQueue[tuple[int, list[Finding]]] = queue.SimpleQueue()
    for number, check in enumerate(checks):
        # a daemon, so that one that hangs in a system call does not keep the command from ending
        threading.Thread(target=lambda n=number, c=check: answers.put((n, _made(c, asked))), daemon=True).start()
    deadline, found = time.monotonic() + longest, {}
    while len(found) < len(checks) and (left := deadline - time.monotonic()) > 0:
        try:
            number, findings = answers.get(timeout=left)
        except queue.Empty:
            break
        found[number] = findings
    every = [found.get(n) or ([] if n in found else [_hung(check, longest)]) for n, check in enumerate(checks)]
    return [without_secrets(each, {**os.environ, **asked.environment}) for findings in every for each in findings]


def _made(check: Check, asked: Asked) -> list[Finding]:
    try:
        return list(check(asked))
    except Exception as error:  # the other findings are needed most when something is odd; this one fails the command
        return [fail(_name(check), f"the check itself broke: {type(error).__name__}: {error}", "an answer",
                     "repair what it names; if that is this program, report it")]  # fmt: skip


def _hung(check: Check, seconds: float) -> Finding:
    return fail(_name(check), f"no answer within {seconds:g} s", "an answer",
                "look whether the file system, the server or the driver it asks is stuck")  # fmt: skip


def _name(check: Check) -> str:
    return check.__name__.replace("_", " ")
