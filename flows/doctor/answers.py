"""Short questions to servers over plain HTTP: who does not answer in seconds is said to be down."""

import base64
import json
import time
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import unquote

from flows.doctor.findings import Finding, fail, ok, warn

SECONDS = 3.0  # that a server has for an answer
OFF_SECONDS, BAD_SECONDS = 5, 300  # of a clock: headers have whole seconds; storage refuses from 900 on


class Answer(NamedTuple):
    """What a server said, and how far its clock is ahead of ours, where it tells the time."""

    status: int
    body: bytes
    ahead_seconds: float | None

    def json(self) -> Any:
        """The body as JSON; raises ValueError."""
        return json.loads(self.body)


def ask(url: str, headers: dict[str, str] | None = None, body: Any = None) -> Answer:
    """The answer to GET, or to POST of `body`; refusals are answers too. Raises OSError if there is none."""
    address, own = _without_user(url)
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {**own, **(headers or {})})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return Answer(answer.status, answer.read(), _ahead(answer.headers["Date"]))
    except urllib.error.HTTPError as refusal:
        return Answer(refusal.code, refusal.read(), _ahead(refusal.headers["Date"]))


def same_clock(name: str, ahead: float | None) -> list[Finding]:
    """What the clock of a server says of ours; nothing where it does not tell the time."""
    if ahead is None:
        return []
    found = f"this machine is {abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead'}"
    if abs(ahead) > OFF_SECONDS:
        worse = fail if abs(ahead) > BAD_SECONDS else warn
        return [worse(name, found, f"less than {OFF_SECONDS} s between all machines",
                      "set both clocks by NTP (chronyd); storage refuses requests 15 minutes off")]  # fmt: skip
    return [ok(name, "as this machine's")]


def _ahead(date: str | None) -> float | None:
    return parsedate_to_datetime(date).timestamp() + 0.5 - time.time() if date else None  # of whole seconds the middle


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """The URL without `user:password@`, and the header that says it instead: urllib takes it for a port."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    pair = base64.b64encode(unquote(user).encode()).decode()
    return f"{scheme}://{host}{slash}{path}", {"Authorization": f"Basic {pair}"} if at else {}
