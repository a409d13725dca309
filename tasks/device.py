"""One update at a time on a GPU of this machine, whoever started it: two would share its memory, and fail."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from tasks.locks import exclusive, is_held


@contextlib.contextmanager
def alone_on_the_device() -> Iterator[None]:
    """Hold the GPU that updates use for the block; waits for whoever has it. Without a GPU nobody waits."""
    if not torch.cuda.is_available():
        yield
        return
    lock = lock_of(str(torch.cuda.get_device_properties(0).uuid))
    if is_held(lock):
        with contextlib.suppress(MissingContextError):  # called without Prefect
            get_run_logger().info("another update is at work on this GPU: this one begins when it has ended (%s)", lock)
    with exclusive(lock):
        yield


def lock_of(device: str) -> Path:
    """The lock file of a device, the same for all homes of this user."""
    return Path(tempfile.gettempdir()) / f"evergreen-{os.getuid()}" / f"gpu-{device}.lock"
