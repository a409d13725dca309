"""Threads that each compute on their own: many parts at once instead of many threads on one part.

PyTorch counts threads per thread, and gives a new one the count that was set last when it first asks or computes. So
each worker asks, then sets its own to one, and the count of later threads is put back before any work begins.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import TracebackType
from typing import TypeVar

import torch

from models import threads  # noqa: F401 -- first: it asks for the count that this file sets for a moment

MOST = 8  # workers; each has a part of all inputs in memory

Job = TypeVar("Job")


class Workers:
    """A pool of such threads, for as long as its block lasts."""

    def __init__(self) -> None:
        count, before = min(os.cpu_count() or 1, MOST), torch.get_num_threads()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="merge", initializer=_compute_alone)
        here = Barrier(count + 1)
        for _ in range(count):
            self._pool.submit(here.wait)
        here.wait()
        torch.set_num_threads(before)

    def do(self, function: Callable[[Job], None], jobs: Iterable[Job]) -> None:
        """`function` of every job, in any order; the first error ends it."""
        waiting = [self._pool.submit(function, job) for job in jobs]
        try:
            for each in waiting:
                each.result()
        finally:
            for each in waiting:
                each.cancel()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)


def _compute_alone() -> None:
    torch.get_num_threads()  # else the first computation would take the count of the other threads
    torch.set_num_threads(1)
