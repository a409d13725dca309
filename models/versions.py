"""The versions of a stream's live model: one per entry of its ledger that brought weights, and which of them is live.

A rollback brings none: it makes an earlier version live again.
"""

from collections.abc import Sequence

from data_catalog.promotions import Promotion, live_in
from models import living


def versions(history: Sequence[Promotion]) -> list[Promotion]:
    """The entries that brought weights: the beginning of the stream and every promotion, oldest first."""
    return [entry for entry in history if entry.deed in ("start", "promote")]


def brought_by(history: Sequence[Promotion], entry: Promotion) -> Promotion:
    """The entry that brought the weights of `entry`: itself, or what a rollback returns to."""
    while entry.deed == "rollback":
        entry = history[entry.returns_to]
    return entry


def champion(history: Sequence[Promotion]) -> Promotion | None:
    """The version that is live; None before the stream has begun."""
    live = live_in(list(history))
    return None if live is None else brought_by(history, live)


def ancestors(stream: str, history: Sequence[Promotion], entry: Promotion, most: int = 20) -> list[Promotion]:
    """The versions that the weights of `entry` were trained on from, the nearest first, at most `most`."""
    found: list[Promotion] = []
    entry, steps = brought_by(history, entry), living.finished(stream)
    while entry.step is not None and len(found) < most:
        entry = brought_by(history, history[living.load_step(steps[entry.step]).follows])
        found.append(entry)
    return found
