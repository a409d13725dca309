"""A connection to Ray: to the cluster at an address, or processes of one's own that no other machine reaches."""

import contextlib
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from data_catalog.redaction import has_password

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # read by Ray as it is imported; 0: it binds to 127.0.0.1, which no
# argument of its own achieves
OWN = {
    "include_dashboard": False,
    "object_store_memory": 128 * 2**20,  # only references pass through it
}
_SECRET = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$")  # in a name


def arguments(address: str) -> dict[str, Any]:
    """For `ray.init`, to be called before ray is imported; the address is never left to Ray, which takes any."""
    told = {"address": address, "log_to_driver": False, "logging_level": "ERROR"}
    if address != "local":
        return told
    os.environ.setdefault(LOOPBACK, "0")
    return told | OWN


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """The connection that this process has, or one for the block; a cluster of our own ends with it."""
    given = arguments(address)
    import ray

    if ray.is_initialized():
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):  # where Ray tells of dead workers
        ray.init(**given)
        try:
            yield
        finally:
            ray.shutdown()


def environment_for_workers(given: Mapping[str, str] = os.environ, also: Collection[str] = ()) -> dict[str, str]:
    """What workers are told of an environment: EVERGREEN_* and `also`, nothing that may be a credential."""
    return {
        name: value
        for name, value in given.items()
        if (name.startswith("EVERGREEN_") or name in also) and not _SECRET.search(name) and not has_password(value)
    }
