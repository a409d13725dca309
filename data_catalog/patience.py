"""Asking a service again that does not answer for the moment: longer pauses each time, and a limit on all of it."""

import logging
import os
import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)

SECONDS = "120"  # that a service is asked again, unless EVERGREEN_STORE_PATIENCE says otherwise
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0
_FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, ValueError, TypeError, AttributeError)
_FINAL_NAMES = {"NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ClientAuthenticationError"}
_PASSING = {408, 409, 425, 429}  # answers of the 400s that change when asked again
_PASSING_CODES = ("BadDigest", "IncompleteBody", "RequestTimeout", "SlowDown", "Mismatch")
_NO_RANGE = ("InvalidRange", "not satisfiable")
_THERE_ALREADY = ("PreconditionFailed", "pre-conditions you specified did not hold", "ConditionNotMet")


def patiently(ask: Callable[[], T], what: str) -> T:
    """What `ask` gives, asked again while its service fails; raises the last error when patience is at its end.

    An answer that will not change, such as that there is no such file, is raised at once.
    """
    end, pause = time.monotonic() + limit(), FIRST_PAUSE
    while True:
        try:
            return ask()
        except Exception as error:  # each driver has its own classes, not all of them OSError
            wait = pause * random.uniform(0.5, 1)  # else all who were refused at once come back at once
            if is_final(error) or time.monotonic() + wait > end:
                raise
            told = logging.WARNING if pause > 1 else logging.INFO  # a second or so is nothing special
            log.log(told, "%s failed (%s): asking again, for %g s in all", what, type(error).__name__, limit())
        time.sleep(wait)
        pause = min(2 * pause, LONGEST_PAUSE)


def is_final(error: BaseException) -> bool:
    """Whether asking again would give the same."""
    return (
        isinstance(error, _FINAL)
        or type(error).__name__ in _FINAL_NAMES
        or _is_refused(error)
        or is_no_range(error)
        or is_there_already(error)
    )


def is_no_range(error: BaseException) -> bool:
    """Whether a service says that a file ends before the range that it was asked for begins."""
    return any(word in str(error) for word in _NO_RANGE)


def is_there_already(error: BaseException) -> bool:
    """Whether a service refuses to create what exists, said in other words than FileExistsError."""
    return any(word in f"{error} {error.__cause__}" for word in _THERE_ALREADY)


def _is_refused(error: BaseException) -> bool:
    """Whether a service says that the request itself is wrong."""
    text = f"{error} {error.__cause__}"
    return str(error).startswith("Forbidden") or any(
        400 <= status < 500 and status not in _PASSING and not any(code in text for code in _PASSING_CODES)
        for status in (_status(error), _status(error.__cause__))
    )


def _status(error: BaseException | None) -> int:
    """The status of an HTTP answer, as the different drivers tell it; 0 for none."""
    told = getattr(error, "response", None)
    known = told.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(told, dict) else None
    found = known or next((getattr(error, n) for n in ("status", "status_code", "code") if hasattr(error, n)), 0)
    return int(found) if str(found).isdigit() else 0


def limit() -> float:
    """Seconds until a service that fails counts as down (EVERGREEN_STORE_PATIENCE); raises ValueError."""
    given = os.environ.get("EVERGREEN_STORE_PATIENCE", SECONDS)
    try:
        return max(0.0, float(given))
    except ValueError as error:
        raise ValueError(f"EVERGREEN_STORE_PATIENCE is {given!r}, expected seconds such as 120") from error
