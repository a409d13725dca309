"""Which machines are at work on a store in object storage: each run has an object there, renewed while it lives.

An object that was not renewed for `GONE_SECONDS` is of a run that was killed. All ages are by the clock of the service,
so the clocks of the machines do not matter. A run says that it is there and then looks for housekeeping; housekeeping
says that it is there and then looks for runs: one of the two sees the other, whoever comes first.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator

from data_catalog.object_storage import ObjectStorage, storage_at
from data_catalog.outage import Outage
from data_catalog.places import store_url

log = logging.getLogger(__name__)

FOLDER, HOUSEKEEPING, CLOCK = "running", "running/housekeeping", "running/clock"
RENEW_SECONDS, GONE_SECONDS, POLL_SECONDS = 60.0, 900.0, 5.0


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Be a run that housekeeping on any machine sees, for the block; waits while one is at work. Else nothing."""
    if (url := store_url()) is None:
        yield
        return
    there, card = storage_at(url), _card()
    key = f"{FOLDER}/{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    there.replace(key, card)
    while _is_alive(there, HOUSEKEEPING):
        there.delete([key])
        log.info("housekeeping is at work on %s: waiting until it is done", url)
        time.sleep(POLL_SECONDS)
        there.replace(key, card)
    with _renewed(there, key, card):
        yield


@contextlib.contextmanager
def sole_housekeeping() -> Iterator[list[str]]:
    """Be the only housekeeping of the store for the block, which gets the names of the runs at work.

    No run begins in the block if there are none. Raises Outage while another housekeeping is at work. A store in a
    folder has no runs that this module knows of.
    """
    if (url := store_url()) is None:
        yield []
        return
    there, ours = storage_at(url), _card()
    if not there.create(HOUSEKEEPING, ours) and there.find(HOUSEKEEPING) != ours:  # else only the answer got lost
        if not _is_alive(there, HOUSEKEEPING):
            there.replace(HOUSEKEEPING, ours)
        if there.find(HOUSEKEEPING) != ours:
            raise Outage(f"another `evergreen gc` is at work on {url}; run it again when that is done")
    with _renewed(there, HOUSEKEEPING, ours):
        now = clock(there)
        found = {key: stat for key, stat in there.below(FOLDER).items() if key not in (HOUSEKEEPING, CLOCK)}
        yield sorted(key.partition("/")[2] for key, stat in found.items() if _age(stat.changed_ns, now) < GONE_SECONDS)


def clock(there: ObjectStorage) -> float:
    """Seconds since 1970 by the clock of the service."""
    there.replace(CLOCK, b"{}")
    return (there.stat(CLOCK).changed_ns or time.time_ns()) / 1e9


def _is_alive(there: ObjectStorage, key: str) -> bool:
    found = there.stat(key)
    return found is not None and _age(found.changed_ns, clock(there)) < GONE_SECONDS


def _age(changed_ns: int | None, now: float) -> float:
    return 0.0 if changed_ns is None else now - changed_ns / 1e9


@contextlib.contextmanager
def _renewed(there: ObjectStorage, key: str, card: bytes) -> Iterator[None]:
    """Renew an object for the block, and delete it in the end."""
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            try:
                there.replace(key, card)
            except (Outage, ValueError) as error:  # told, and tried again
                log.warning("housekeeping may take this run for dead: %s", error)

    thread = threading.Thread(target=renew, name="presence", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(Outage):  # it counts as gone in the end anyway; what the block raised is told
            there.delete([key])


def _card() -> bytes:
    """Says who it is, and tells it from every other."""
    return json.dumps({"host": socket.gethostname(), "process": os.getpid(), "run": uuid.uuid4().hex}).encode()
