"""Ray, where `execution` of a configuration names it: installed, answering, and with a token if it is shared."""

import socket
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from urllib.parse import urlsplit

from flows.doctor.answers import SECONDS
from flows.doctor.findings import Asked, Finding, fail, ok, warn
from flows.doctor.packages import version

INSTALL = "uv pip install 'evergreen[ray]'"
TOKEN = "RAY_AUTH_TOKEN"


def ray(asked: Asked) -> Iterator[Finding]:
    """Every engine of the configuration that is on Ray."""
    if asked.config is None:
        return
    for field in ("training", "stages"):
        engine = getattr(asked.config.execution, field, None)
        if engine is not None and engine.kind == "ray":
            yield from _engine(f"Ray of execution.{field}", engine.address, asked)


def _engine(name: str, address: str, asked: Asked) -> Iterator[Finding]:
    if missing := [module for module in ("ray", "prefect_ray") if util.find_spec(module) is None]:
        yield fail(name, f"{' and '.join(missing)} not installed", "Ray and Prefect's runner for it", INSTALL)
        return
    if address in ("local", "auto"):
        yield ok(name, f"{address}, Ray {version('ray')}")
    elif said := _silence(address):
        yield fail(name, f"{address}: {said}", "a Ray cluster", "start the cluster, or correct `address`")
    else:
        yield ok(name, f"{address} answers; Ray {version('ray')} here")
    if address != "local":
        yield from _token(name, asked)


def _silence(address: str) -> str | None:
    """Why nobody can be reached at `host:port` or `ray://host:port`; None if somebody is."""
    try:
        place = urlsplit(address if "://" in address else f"//{address}")
        socket.create_connection((place.hostname, place.port), SECONDS).close()
    except (OSError, ValueError, TypeError) as error:
        return str(error)
    return None


def _token(name: str, asked: Asked) -> Iterator[Finding]:
    path = asked.environment.get(f"{TOKEN}_PATH")
    if path and not Path(path).is_file():
        yield fail(f"token of {name}", f"{TOKEN}_PATH is {path}, which is no file", "the token of the cluster",
                   "copy the token there, or correct the variable")  # fmt: skip
    elif not (path or asked.environment.get(TOKEN) or (Path.home() / ".ray" / "auth_token").is_file()):
        yield warn(f"token of {name}", "none", "the token of a cluster that others can reach",
                   f"set RAY_AUTH_MODE=token and {TOKEN}_PATH: an open port of Ray runs anybody's code")  # fmt: skip
