"""When what lies in a place counts as there: once its writer says so with a marker, or once it has kept still.

The clock that counts is that of the store: on this machine the time a file's state last changed, which copying with
old dates does not set back. Where that time lies ahead or is not told, a file has kept still once it was seen unchanged
for so long. A clock that is wrong makes a file wait, or be looked at early: what is half written then is refused as
damaged, and arrives with its next change.
"""

import json
import logging
import time
from collections.abc import Iterable
from typing import NamedTuple

from pydantic import Field

from data_catalog import files, places
from data_catalog.file_stats import FileStat
from data_catalog.refs import Spec
from data_catalog.store_files import write_atomically

log = logging.getLogger(__name__)


class Settle(Spec):
    """The rule; both parts hold where both are given, and without either all is there at once."""

    marker: str | None = Field(
        None, pattern=r"^[^./][^/]*$", description="a file of this name in a folder says that the folder and those in "
        "it are whole; what changed after it was written waits until it is written again", examples=["_SUCCESS"]
    )  # fmt: skip
    quiet_seconds: float = Field(
        0, ge=0, description="a file that changed less long ago may still be written", examples=[60]
    )

    def is_instant(self) -> bool:
        """Whether everything is there at once."""
        return self.marker is None and not self.quiet_seconds


class Settled(NamedTuple):
    """The files that are there, and why others are not there yet."""

    there: dict[str, FileStat]
    waiting: dict[str, str]


Markers = dict[str, int | None]  # folder, "" for the root -> when its marker was written, if known


def find_markers(rule: Settle, root: str) -> Markers:
    """The folders that are marked; look for them before files are listed, so that nothing they promise is missed.

    Raises ValueError for a web server, which does not list its files.
    """
    if rule.marker is None:
        return {}
    if root.startswith("http"):
        raise ValueError(f"{root} cannot be listed, so nobody can look for {rule.marker}: use `quiet_seconds` alone")
    found = {name.rpartition("/"): stat for name, stat in files.stat_below(root).items()}
    return {folder: max(_times(stat), default=None) for (folder, _, name), stat in found.items() if name == rule.marker}


def settled(found: dict[str, FileStat], rule: Settle, markers: Markers, memory: str) -> Settled:
    """Divide what was found; `memory`: the name under which is remembered since when files are seen unchanged."""
    if rule.is_instant():
        return Settled(found, {})
    waiting = {}
    if rule.marker is not None:
        waiting = {name: why for name, stat in found.items() if (why := _unmarked(name, stat, rule.marker, markers))}
    if rule.quiet_seconds:
        unmarked = {name: stat for name, stat in found.items() if name not in waiting and not stat.fault}
        waiting |= _restless(unmarked, rule.quiet_seconds, memory)
    return Settled({name: stat for name, stat in found.items() if name not in waiting}, waiting)


def reasons(waiting: Iterable[str]) -> str:
    """How many wait for what, as one line."""
    counts: dict[str, int] = {}
    for why in waiting:
        counts[why] = counts.get(why, 0) + 1
    return ", ".join(f"{count} {why}" for why, count in sorted(counts.items()))


def _unmarked(name: str, stat: FileStat, marker: str, markers: Markers) -> str | None:
    """Why no marker vouches for a file; None if one does."""
    folder, is_later = name, False
    changed = min(_times(stat), default=None)  # neither a date ahead nor a change of rights alone is a change
    while folder:
        folder = folder.rpartition("/")[0]
        if folder in markers:
            written = markers[folder]
            if written is None or changed is None or changed <= written:
                return None
            is_later = True
    return f"changed after their {marker} was written" if is_later else f"in folders without {marker}"


def _restless(found: dict[str, FileStat], quiet_seconds: float, memory: str) -> dict[str, str]:
    """The files that have not kept still for long enough, and why."""
    now, quiet = time.time_ns(), int(quiet_seconds * 1e9)
    young = f"changed within the last {quiet_seconds:g} s"
    ages = {name: None if stat.changed_ns is None else now - stat.changed_ns for name, stat in found.items()}
    untold = {name: found[name] for name, age in ages.items() if age is None or age < 0}
    seen = _seen_unchanged(untold, now, memory)
    waiting = {name: young for name, age in ages.items() if age is not None and 0 <= age < quiet}
    for name, since in seen.items():
        if now - since < quiet:
            waiting[name] = f"with a time ahead of the clock or none, seen unchanged for less than {quiet_seconds:g} s"
    return waiting


def _seen_unchanged(found: dict[str, FileStat], now: int, memory: str) -> dict[str, int]:
    """Since when each file was seen with the version it has now; a time ahead of the clock begins anew."""
    path = places.home() / "settling" / f"{memory}.json"
    if not found:
        path.unlink(missing_ok=True)
        return {}
    try:
        known = json.loads(path.read_text())
    except FileNotFoundError:
        known = {}
    except ValueError as error:
        log.warning("%s is damaged (%s): what it remembered is waited for anew", path, error)
        known = {}
    seen = {}
    for name, stat in found.items():
        version, since = known.get(name, (None, now))
        seen[name] = since if version == _identity(stat) and since <= now else now
    write_atomically(path, json.dumps({name: (_identity(found[name]), seen[name]) for name in seen}).encode())
    return seen


def _identity(stat: FileStat) -> str:
    """What stays while a file stays: its version, or its size where every look gives another version."""
    return str(stat.size) if stat.changed_ns is None and stat.mtime_ns is not None else stat.version


def _times(stat: FileStat) -> list[int]:
    return [each for each in (stat.mtime_ns, stat.changed_ns) if each is not None]
