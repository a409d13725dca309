"""What a check of `evergreen doctor` says, with every secret taken out before anybody sees it."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import unquote

from data_catalog.redaction import shown
from data_catalog.refs import Spec

if TYPE_CHECKING:
    from flows.experiment import ExperimentConfig  # which takes seconds to import

State = Literal["ok", "warn", "fail"]
SECRET = re.compile(r"KEY|SECRET|PASSWORD|PASSWD|TOKEN|CREDENTIAL|AUTH(?!OR)|SIGNATURE|DSN", re.IGNORECASE)
NO_SECRET = re.compile(r"_(FILE|PATH|MODE|METHOD)$|^SSH_AUTH_SOCK$|^XAUTHORITY$")  # name a place or a way
SHORTEST = 4  # characters of a value that is looked for: less would hide half of every sentence
PLAIN = ("true", "false", "none")


class Finding(Spec):
    """One line of the examination; `do` is empty where nothing is to be done."""

    name: str
    state: State
    found: str
    expected: str = ""
    do: str = ""


class Asked(NamedTuple):
    """What is examined: the environment, and a configuration if one is named."""

    environment: Mapping[str, str]
    config: "ExperimentConfig | None" = None

    @property
    def sources(self) -> tuple:
        """All sources of the configuration, with the rule of arrival of a living stream."""
        if self.config is None:
            return ()
        return (*getattr(self.config, "arriving", self.config.sources), *self.config.evaluation.own)


Check = Callable[[Asked], Iterable[Finding]]


def ok(name: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(name=name, state="ok", found=found)


def warn(name: str, found: str, expected: str, do: str) -> Finding:
    """It works, or may for a while."""
    return Finding(name=name, state="warn", found=found, expected=expected, do=do)


def fail(name: str, found: str, expected: str, do: str) -> Finding:
    """A run would fail."""
    return Finding(name=name, state="fail", found=found, expected=expected, do=do)


def without_secrets(finding: Finding, environment: Mapping[str, str] = os.environ) -> Finding:
    """The finding as it may be printed, mailed or kept."""
    texts = finding.model_dump(exclude={"state"})
    return finding.model_copy(update={name: cleaned(text, environment) for name, text in texts.items()})


def cleaned(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """A text without users and queries of URLs, and without the value of any variable that is named like a secret."""
    for secret in sorted(secrets_of(environment), key=len, reverse=True):
        text = text.replace(secret, "***")
    return shown(text)


def secrets_of(environment: Mapping[str, str]) -> set[str]:
    """Values that must not be shown: of variables called like secrets, and passwords in URLs."""
    found = {part for name, value in environment.items() for part in _parts(name, value)}
    return {secret for secret in found if len(secret) >= SHORTEST and secret.lower() not in PLAIN}


def _parts(name: str, value: str) -> Iterator[str]:
    if SECRET.search(name) and not NO_SECRET.search(name):
        yield value
        yield value.partition(":")[2]  # name:password
    for address in re.findall(r"\w+://\S+", value):
        user = address.partition("://")[2].rpartition("@")[0].partition("/")[0]
        password = user.partition(":")[2]
        yield from (password, unquote(password))
        yield from (each.partition("=")[2] for each in address.partition("?")[2].split("&"))
