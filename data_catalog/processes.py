"""Processes that must not outlive the one that started them."""

import ctypes
import signal
import sys


def end_with_parent() -> None:
    """For `preexec_fn`: the process is told to end when its parent has, also after kill -9 of the parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
