"""The verdict of the gate on one step, as a page in markdown: what it says, what was decided, every check."""

from data_catalog.arrivals import in_words
from data_catalog.promotions import Promotion
from models.gate import Check, Verdict
from models.living import LivingStep

_HEAD = "| check | | difference | 95 % interval | at least | candidate | compared with |\n|---|---|--:|:-:|--:|--:|--:|"
_MARKS = {"promote": "passes", "hold": "for a person", "reject": "fails"}


def verdict_page(stream: str, done: LivingStep, decided: Promotion | None) -> str:
    """The page about a finished step; `decided`: the entry about it, None while it is held."""
    parts = [
        f"# {stream}, step {done.step}: {_headline(done.verdict, decided)}",
        "\n".join(f"- {reason}" for reason in done.verdict.reasons),
        *([_how_to_decide(stream, done.step)] if decided is None else []),
        _table(done.verdict.checks),
        f"Made of {in_words(done.arrival.samples)}, from the weights of entry {done.follows} "
        f"(`{done.started_from[:19]}`); the candidate is `{done.candidate.digest[:19]}`. "
        "Differences have 95 % bootstrap intervals over the same images.",
    ]
    return "\n\n".join(parts) + "\n"


def _headline(verdict: Verdict, decided: Promotion | None) -> str:
    if decided is None:
        return f"held for a person; the gate says {verdict.outcome}"
    deed = {"promote": "promoted", "reject": "rejected"}[decided.deed]
    return f"{deed} by {'the gate' if decided.by == 'gate' else f'a person: {decided.reason}'} (entry {decided.number})"


def _how_to_decide(stream: str, step: int) -> str:
    return (
        "Decide with `Resume` on the page of the run that asks, or with\n\n"
        f"```\nevergreen promote {stream} --step {step} --reason '...'\n"
        f"evergreen reject {stream} --step {step} --reason '...'\n```"
    )


def _table(checks: tuple[Check, ...]) -> str:
    return "\n".join([_HEAD, *map(_row, checks)])


def _row(check: Check) -> str:
    other = "floor" if check.live is None else f"{check.live:.3f}" + " (start)" * (check.against == "start")
    interval = "unknown" if check.low is None else f"{check.low:+.3f} to {check.high:+.3f}"
    least = f"{check.least:.3f}" if check.live is None else f"{check.least:+.3f}"
    said = _MARKS[check.outcome] + (f": {check.note}" if check.note else "")
    return (
        f"| {check.name} | {said} | {check.difference:+.3f} | {interval} | {least} | {check.candidate:.3f} | {other} |"
    )
