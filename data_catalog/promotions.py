"""Which checkpoint of a living stream is live, and was when: an append-only ledger, the one truth about it.

Each entry is on disk before it counts and names the one it follows, so two writers cannot both have the last word.
The order of entries is their order in the file: no clock decides anything.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from data_catalog import ledger
from data_catalog.refs import Spec

Deed = Literal["start", "promote", "reject", "rollback"]  # reject: leaves what is live as it is


class Promotion(Spec):
    """One entry: what was done about the live weights of a stream, by whom and why."""

    number: int = Field(ge=0)
    deed: Deed
    checkpoint: str  # digest of the weights it is about
    backbone: str
    step: int | None = None  # of the stream, whose candidate the weights were; None: the weights it began with
    by: Literal["gate", "person", "stream"]
    reason: str
    verdict: str | None = None  # digest of the gate's verdict on the step
    returns_to: int | None = None  # of a rollback: the entry whose weights are live again
    request: str | None = None  # equal for attempts at one deed, so that a retried run enters it once
    time: str  # ISO 8601, UTC


class LiveChanged(ValueError):
    """Somebody changed what is live in the meantime."""


def entries(stream: str) -> list[Promotion]:
    """Every entry, oldest first."""
    return [Promotion(**entry) for entry in ledger.entries(_name(stream))]


def live(stream: str) -> Promotion | None:
    """The entry that made the weights live that are live now; None before the first."""
    return live_in(entries(stream))


def live_in(history: list[Promotion]) -> Promotion | None:
    """The last entry of `history` that changed what is live."""
    return next((entry for entry in reversed(history) if entry.deed != "reject"), None)


def decided(stream: str, step: int) -> Promotion | None:
    """What was decided last about the candidate of a step; None if nothing was."""
    return next((e for e in reversed(entries(stream)) if e.step == step and e.deed in ("promote", "reject")), None)


def add(stream: str, entry: Promotion, follows: int | None) -> Promotion:
    """Append `entry`, whose number and time are given to it here, if the live entry is still number `follows`.

    Raises LiveChanged if it is another one by now.
    """

    def made(history: list[Promotion]) -> Promotion:
        now = live_in(history)
        if (now.number if now else None) != follows:
            raise LiveChanged(
                f"{stream}: since this was decided, entry {now.number if now else 'none'} became live "
                f"({now.reason if now else 'nothing'}); look at `evergreen status` and decide again"
            )
        return entry

    return enter(stream, made)


def enter(stream: str, make: Callable[[list[Promotion]], Promotion]) -> Promotion:
    """Append what `make` gives for the entries so far, numbered and timed here, while no other writer can add any.

    If it gives one of them, nothing is appended: what was to be entered is there already.
    """
    known: list[Promotion] = []

    def after(found: list[dict]) -> list[dict]:
        history = [Promotion(**each) for each in found]
        entry = make(history)
        if any(entry is each for each in history):
            known.append(entry)
            return []
        told = entry.model_copy(update={"number": len(history), "time": datetime.now(UTC).isoformat()})
        return [told.model_dump(mode="json")]

    added = ledger.extend(_name(stream), after)
    return known[0] if known else Promotion(**added[0])


def weights_in_words(step: int | None) -> str:
    """Which weights of a stream are meant."""
    return "the weights the stream began with" if step is None else f"step {step}"


def known_streams() -> list[str]:
    """The names of all streams with a ledger in this store."""
    return ledger.names(_name(""))


def _name(stream: str) -> str:
    return f"promotions-{stream}"
