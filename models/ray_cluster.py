"""A connection to Ray: to the cluster at an address, or processes of one's own that no other machine reaches."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # off: Ray binds to 127.0.0.1, which it takes for no address else
OWN = {
    "include_dashboard": False,
    "object_store_memory": 128 * 2**20,  # only references pass through it
}


def arguments(address: str) -> dict[str, Any]:
    """For `ray.init`, called before ray is imported; the address is never left to Ray, which joins what it finds."""
    told = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address != "local":
        return told
    os.environ[LOOPBACK] = "0"
    return told | OWN


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """The connection that this process has, or one for the block; a cluster of our own ends with it."""
    given = arguments(address)
    import ray

    if ray.is_initialized():
        yield
        return
    ray.init(**given)
    try:
        yield
    finally:
        ray.shutdown()
