"""The Prefect server: whether it answers, which version it is, and whether anybody works for its deployments."""

from collections.abc import Iterator
from importlib import metadata
from typing import Any

from flows.doctor.answers import Answer, ask, same_clock
from flows.doctor.findings import Asked, Finding, fail, ok, warn
from flows.server import TRAINING, api_headers, running_server

NAME = "Prefect server"
MOST = 200  # of a kind that the server returns at once


def prefect_server(asked: Asked) -> Iterator[Finding]:
    """PREFECT_API_URL, or the `evergreen ui` of this home."""
    url = server(asked)
    if url is None:
        yield ok(NAME, "none: each command starts one of its own")
        return
    try:
        answer = ask(f"{url}/admin/version", api_headers())
    except (OSError, ValueError) as error:
        yield fail(NAME, f"{url} does not answer: {error}", "a Prefect server",
                   "start it (`evergreen ui`, or your team's), or correct PREFECT_API_URL")  # fmt: skip
        return
    yield _judged(url, answer)
    yield from same_clock(f"clock of the {NAME}", answer.ahead_seconds)


def work(asked: Asked) -> Iterator[Finding]:
    """Pools that deployments are in: each needs a worker that polls it, the one for training a limit."""
    url = server(asked)
    if url is None:
        return
    try:
        for name, pool in _pools(url).items():
            yield from _pool(url, name, pool)
    except (OSError, ValueError) as error:
        yield warn("work pools", f"the server does not tell: {error}", "the pools of all deployments",
                   f"look at {NAME} first")  # fmt: skip


def server(asked: Asked) -> str | None:
    """The API that is asked, None where none is configured or serves this home."""
    return (asked.environment.get("PREFECT_API_URL") or running_server() or "").rstrip("/") or None


def _judged(url: str, answer: Answer) -> Finding:
    ours = metadata.version("prefect")
    if answer.status in (401, 403):
        return fail(NAME, f"{url} answers {answer.status}: it does not let us in", "an answer",
                    "set PREFECT_API_AUTH_STRING (or PREFECT_API_KEY) to what the server was started with")  # fmt: skip
    try:
        theirs = answer.json()
    except ValueError:
        theirs = None
    if answer.status != 200 or not isinstance(theirs, str):
        return fail(NAME, f"{url} answers {answer.status}, not as Prefect's API does", "the version of the server",
                    "set PREFECT_API_URL to the API, which ends in /api")  # fmt: skip
    if theirs == ours:
        return ok(NAME, f"{url}, version {theirs}")
    worse = warn if theirs.rpartition(".")[0] == ours.rpartition(".")[0] else fail
    return worse(NAME, f"{url} has version {theirs}", f"{ours}, that of the client",
                 "install the same version on both: the one in requirements.lock")  # fmt: skip


def _pools(url: str) -> dict[str, dict]:
    """The work pools of all deployments; raises what `_listed` does."""
    deployments = _listed(f"{url}/deployments/filter", {"limit": MOST})
    named = {each["work_pool_name"] for each in deployments if each.get("work_pool_name")}
    pools = {each["name"]: each for each in _listed(f"{url}/work_pools/filter", {"limit": MOST})} if named else {}
    return {name: pools.get(name, {}) for name in sorted(named)}


def _pool(url: str, name: str, pool: dict) -> Iterator[Finding]:
    workers = _listed(f"{url}/work_pools/{name}/workers/filter", {"limit": MOST})
    polling = [each["name"] for each in workers if each.get("status") == "ONLINE"]
    if polling:
        yield ok(f"work pool {name}", f"{len(polling)} workers")
    else:
        yield warn(f"work pool {name}", "nobody polls it", "a worker for its deployments",
                   f"prefect worker start --pool {name}")  # fmt: skip
    if name == TRAINING and pool.get("concurrency_limit") is None:
        yield warn(f"limit of {name}", "none", "as many runs at once as there are GPUs",
                   "evergreen deploy --gpus N, or two runs share the memory of one GPU")  # fmt: skip


def _listed(url: str, body: Any) -> list[dict]:
    """What a server lists; raises OSError or ValueError if it does not."""
    answer = ask(url, api_headers(), body)
    if answer.status != 200:
        raise ValueError(f"{url} answers {answer.status}")
    return answer.json()
