"""What is worth another try; prefect.yaml says how often a deployment tries.

Prefect takes the number and the delays from PREFECT_TASKS_DEFAULT_RETRIES and ..._RETRY_DELAY_SECONDS; a person at a
terminal is told at once instead.
"""

import errno
import socket
import urllib.error
from collections.abc import Iterator

from prefect import State, Task
from prefect.client.schemas.objects import TaskRun

from data_catalog.outage import Outage

OUTSIDE = (Outage, ConnectionError, TimeoutError, socket.gaierror)
# Of packages that may not be installed, or take long to import; by module and name of a class or one it derives from.
OUTSIDE_BY_NAME = {
    "httpx.TransportError", "requests.exceptions.ConnectionError", "requests.exceptions.Timeout",
    "aiohttp.client_exceptions.ClientConnectionError", "botocore.exceptions.HTTPClientError",
    "botocore.exceptions.ConnectionError", "gcsfs.retry.HttpError", "azure.core.exceptions.ServiceRequestError",
}  # fmt: skip
UNREACHABLE = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ESTALE}
BUSY = (408, 429)  # and 5xx: answers of a server that may have another one soon


def is_worth_retrying(task: Task, run: TaskRun, state: State) -> bool:
    """Prefect's condition of a retry: whether the stage failed for a cause outside that may be gone soon."""
    found = state.data if isinstance(state.data, BaseException) else state.result(raise_on_failure=False)
    return isinstance(found, BaseException) and may_pass(found)


def may_pass(error: BaseException) -> bool:
    """Whether an error, or what caused it, lies outside: a network, a service, a held catalog.

    Bad input, a full disk, missing memory and defects of ours are none: they are there at the next try too.
    """
    return any(_is_outside(each) for each in _causes(error))


def _is_outside(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in BUSY or error.code >= 500
    if isinstance(error, (*OUTSIDE, urllib.error.URLError)):
        return True
    names = {f"{parent.__module__}.{parent.__qualname__}" for parent in type(error).__mro__}
    return bool(names & OUTSIDE_BY_NAME) or (isinstance(error, OSError) and error.errno in UNREACHABLE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised `from`."""
    while error is not None:
        yield error
        error = error.__cause__
