"""Stages are tried again for what may pass, as often as the deployment says, and for nothing else."""

import errno
import urllib.error
from email.message import Message

import httpx
import pytest
from botocore.exceptions import EndpointConnectionError
from prefect import flow
from prefect.settings import (
    PREFECT_TASKS_DEFAULT_RETRIES,
    PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS,
    temporary_settings,
)

from data_catalog.outage import CatalogInUse
from tasks.caching import cached, uncached
from tasks.retrying import may_pass


def answered(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://somewhere", code, "", Message(), None)


@pytest.mark.parametrize("error", [
    CatalogInUse("held"), ConnectionResetError(), TimeoutError(), OSError(errno.ESTALE, "stale"), answered(503),
    answered(429), urllib.error.URLError("no route"), httpx.ConnectError("refused"),
    EndpointConnectionError(endpoint_url="http://s3"),
], ids=repr)  # fmt: skip
def test_what_lies_outside_may_pass(error):
    assert may_pass(error)


@pytest.mark.parametrize("error", [
    ValueError("bad"), OSError(errno.ENOSPC, "full"), PermissionError(), FileNotFoundError(), MemoryError(),
    answered(404),
], ids=repr)  # fmt: skip
def test_what_is_there_at_the_next_try_too_does_not(error):
    assert not may_pass(error)


def test_the_cause_counts_where_the_message_was_made_readable():
    error = ValueError("s3://inbox cannot be listed")
    error.__cause__ = ConnectionRefusedError()
    assert may_pass(error)


@pytest.mark.parametrize("decorate", [cached(revision=1), uncached()], ids=["cached", "uncached"])
@pytest.mark.parametrize("error, calls", [(CatalogInUse("held"), 3), (ValueError("bad"), 1)], ids=["outside", "bad"])
def test_a_stage_is_tried_as_often_as_the_deployment_says(prefect_backend, decorate, error, calls):
    seen = []
    settings = {PREFECT_TASKS_DEFAULT_RETRIES: 2, PREFECT_TASKS_DEFAULT_RETRY_DELAY_SECONDS: 0}
    with temporary_settings(settings):  # read when the stage is defined, which a worker's process does after its start

        @decorate
        def fail() -> int:
            seen.append(1)
            raise error

    with pytest.raises(type(error)):
        flow(lambda: fail(), name="failing")()
    assert len(seen) == calls
