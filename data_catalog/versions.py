"""Records that outlive the program that wrote them: each carries the version of its form, and older ones load."""

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, model_validator

from data_catalog.outage import Outage
from data_catalog.refs import Spec


class LaterVersion(Outage):
    """A later Evergreen wrote it, in a form that this one does not know."""


def check_known(version: int, known: int, what: str) -> None:
    """Raise LaterVersion unless `version` is one of 1 to `known`."""
    if version > known:
        raise LaterVersion(
            f"{what} has version {version}, and this Evergreen knows versions up to {known}: a later one wrote it; "
            "update Evergreen, or go on with the one that did"
        )


class Versioned(Spec):
    """A record stored as JSON; one without a version is of the first. A change of its form adds a migration."""

    MIGRATIONS: ClassVar[tuple[Callable[[dict], dict], ...]] = ()  # the n-th takes version n to n + 1

    version: int = Field(1, ge=1)  # always the latest, once loaded

    @model_validator(mode="before")
    @classmethod
    def _in_its_latest_form(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        latest = len(cls.MIGRATIONS) + 1
        version = given.get("version", 1 if info.mode == "json" else latest)  # JSON was stored, the rest is being made
        if not isinstance(version, int):
            return given  # its field says what is wrong
        check_known(version, latest, f"a stored {cls.__name__}")
        for migrate in cls.MIGRATIONS[version - 1 :]:
            given = migrate(given)
        return {**given, "version": latest}
