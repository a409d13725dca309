"""Spans of time and moments as people read them."""

from datetime import UTC, datetime


def spoken(seconds: float) -> str:
    """A span in its two largest units, e.g. `3 h 20 min`; seconds alone below two minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"


def ago(moment: str, now: datetime | None = None) -> str:
    """How long ago an ISO 8601 moment was; one that lies ahead of the clock is said to."""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    return f"{spoken(seconds)} ago" if seconds >= 0 else f"{spoken(-seconds)} ahead of the clock of this machine"
