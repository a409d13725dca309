"""What people decided about samples: releases from quarantine and requests for removal, with rule, reason and time.

The ledger `decisions` of the store is the truth. A decision is never edited: taking one back is another entry. It is
about the samples it names, not about those that a rule would match later.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from data_catalog import ledger
from data_catalog.exclusions import Exclusions, exclude
from data_catalog.refs import Spec

LEDGER = "decisions"
REMOVED = "removal requests"  # the cause of what `removals` leaves out
Deed = Literal["release", "forget"]


class Decision(Spec):
    """One entry of the ledger."""

    number: int  # from 1, without gaps
    time: str  # ISO 8601, UTC
    kind: Literal["release", "forget", "withdraw_release", "withdraw_forget"]
    samples: tuple[str, ...]  # ids, sorted
    rule: str  # how the samples were chosen, e.g. "--dataset MNIST"; empty if each was named
    reason: str


def decisions() -> list[Decision]:
    """Every decision, oldest first."""
    return [Decision(**entry) for entry in ledger.entries(LEDGER)]


def release(ids: Iterable[str], reason: str, rule: str = "") -> Decision:
    """Accept samples that a check refused; it takes effect when their dataset is ingested next."""
    return _decide("release", ids, reason, rule)


def forget(ids: Iterable[str], reason: str, rule: str = "") -> Decision:
    """Leave samples out of every later plan."""
    return _decide("forget", ids, reason, rule)


def withdraw(deed: Deed, ids: Iterable[str], reason: str, rule: str = "") -> Decision:
    """Take a release or a removal back for these samples; raises ValueError for one that has none."""
    chosen, known = sorted(set(ids)), in_force(deed)
    if idle := [name for name in chosen if name not in known]:
        past = {"release": "released", "forget": "forgotten"}[deed]
        raise ValueError(
            f"{len(idle)} of {len(chosen)} samples are not {past}, first {idle[0]!r}; there is nothing to take back"
        )
    return _decide(f"withdraw_{deed}", chosen, reason, rule)


def in_force(deed: Deed) -> dict[str, str]:
    """Sample id -> reason of every release or removal that was not taken back; the first reason given stays."""
    found: dict[str, str] = {}
    for decision in decisions():
        if decision.kind == deed:
            found = {name: decision.reason for name in decision.samples} | found
        elif decision.kind == f"withdraw_{deed}":
            for name in decision.samples:
                found.pop(name, None)
    return found


def released() -> dict[str, str]:
    """Samples that are accepted although a check refuses them: id -> reason."""
    return in_force("release")


def removals() -> Exclusions | None:
    """The samples that later plans must leave out, None if there are none; equal removals give an equal reference."""
    forgotten = in_force("forget")
    return exclude(forgotten, "drop", REMOVED) if forgotten else None


def _decide(kind: str, ids: Iterable[str], reason: str, rule: str) -> Decision:
    chosen = sorted(set(ids))
    if not chosen or not reason.strip():
        raise ValueError(f"a decision ({kind}) needs samples and a reason; got {len(chosen)} samples, {reason!r}")

    def entry(past: list[dict]) -> list[dict]:
        made = Decision(
            number=len(past) + 1,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            kind=kind,
            samples=chosen,
            rule=rule,
            reason=reason.strip(),
        )
        return [made.model_dump(mode="json")]

    return Decision(**ledger.extend(LEDGER, entry)[0])
