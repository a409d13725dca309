"""The gate: whether a candidate may take the place of the live model, judged image by image on the same images.

A check passes if the candidate is as good as it has to be, rejects if even the favourable end of the interval is not,
and is otherwise for a person to decide. Why so, and what each threshold costs: docs/operations/gate.md.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from data_catalog.refs import Spec
from models.evaluation.margins import Margin, SetMargin, margin, mean_margin, score_interval, set_margins
from models.evaluation.scores import EvalReport, mean_score, primary
from models.evaluation.significance import ROUNDING, holm
from models.evaluation.summaries import Weights

Outcome = Literal["promote", "hold", "reject"]
Least = Annotated[float, Field(ge=-1, le=1)]
_SEVERITY: dict[Outcome, int] = {"promote": 0, "hold": 1, "reject": 2}
CHANCE = 0.05  # of holding or rejecting, for any single set, a candidate that differs from the live model in none


class GateSpec(Spec):
    """How much worse than the live model a candidate may be; each number is the least difference that passes."""

    retention: Least = Field(-0.01, description="candidate minus live, zero-shot retention")
    accumulation: Least = Field(-0.01, description="candidate minus live, knowledge accumulation so far")
    new: Least = Field(0.0, description="candidate minus live, mean over the sets that the newest samples belong to")
    groups: dict[str, Least] = Field(
        default_factory=dict, description="candidate minus live, by name of a group in `evaluation.groups`"
    )
    each: Annotated[float, Field(ge=-1, le=0)] | None = Field(
        -0.1, description="candidate minus live on every single set, where a fall is proven; null: not looked at"
    )
    since_start: Least | None = Field(
        -0.05,
        description="candidate minus the weights the stream began with, zero-shot retention: many small losses, each "
        "within `retention`, are held once they add up to this; null: not looked at",
    )
    floors: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="score that a set must reach, whatever the live model does, by name"
    )
    strict: bool = Field(
        False, description="pass a check only if the whole 95 % interval does, and hold what lies between"
    )
    automatic: bool = Field(True, description="promote what passes; false: hold it for a person as well")


class Check(Spec):
    """One comparison of the gate."""

    name: str
    against: Literal["live", "start", "floor"] = "live"
    live: float | None  # the score it is compared with; none of a floor
    candidate: float
    difference: float
    low: float | None  # 95 % of bootstrap samples of the difference lie between low and high; none without outcomes
    high: float | None
    least: float
    outcome: Outcome
    note: str = ""

    def spoken(self) -> str:
        """The check in words."""
        note = f" ({self.note})" if self.note else ""
        interval = "" if self.low is None else f" [{self.low:+.3f}, {self.high:+.3f}]"
        if self.against == "floor":
            return f"{self.name}: {self.candidate:.3f}, must reach {self.least:.3f}{note}"
        than = "live" if self.against == "live" else "at the start"
        return (
            f"{self.name}: {self.candidate:.3f} against {self.live:.3f} {than}, a difference of {self.difference:+.3f}"
            f"{interval}, at least {self.least:+.3f}{note}"
        )


class Verdict(Spec):
    """What the gate says of a candidate, and why."""

    outcome: Outcome
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    candidate: str  # digest
    live: str  # digest


class Roles(Spec):
    """Which scored sets stand for what, by the names they have in reports."""

    adaptation: tuple[str, ...]
    retention: tuple[str, ...]
    new: tuple[str, ...]  # of the newest samples
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def all_sets(self) -> list[str]:
        """Every set that stands for something, once."""
        of_groups = (name for sets in self.groups.values() for name in sets)
        return list(dict.fromkeys((*self.adaptation, *self.retention, *self.new, *of_groups)))


def judge(
    spec: GateSpec,
    candidate: EvalReport,
    live: EvalReport,
    roles: Roles,
    weights: Weights = None,
    first: EvalReport | None = None,
) -> Verdict:
    """The verdict on `candidate` against `live`, both scored on the same images.

    `first`: the scores of the weights the stream began with, for `since_start`. Raises ValueError for a group or a
    floor of a set that was not scored.
    """
    refuse_unknown(spec, primary(candidate), roles.groups)
    found = set_margins(candidate, live, roles.all_sets())
    checks = [
        *_of_means(spec, candidate, live, roles, found, weights),
        *_since_start(spec, candidate, first, live, roles, weights),
        *_of_each(spec, found),
        *(_floor(spec, candidate, name, least) for name, least in sorted(spec.floors.items())),
    ]
    worst = max((check.outcome for check in checks), key=_SEVERITY.__getitem__)
    reasons = [check.spoken() for check in checks if check.outcome == worst != "promote"]
    if worst == "promote":
        reasons = ["every check passed", *(check.spoken() for check in checks if check.note)]
        if not spec.automatic:
            worst, reasons = "hold", ["every check passed, and `gate.automatic` is off", *reasons[1:]]
    return Verdict(
        outcome=worst, reasons=tuple(reasons), checks=tuple(checks), candidate=candidate.checkpoint,
        live=live.checkpoint,
    )  # fmt: skip


def refuse_unknown(spec: GateSpec, scored: Mapping[str, object], groups: Mapping[str, object]) -> None:
    """Raise ValueError where the gate names a group or a set that there is none of."""
    if unknown := sorted({*spec.groups} - {*groups}):
        raise ValueError(
            f"`gate.groups` names {', '.join(unknown)}, expected groups of `evaluation.groups`: "
            f"{', '.join(sorted(groups)) or 'none are defined'}"
        )
    if unknown := sorted({*spec.floors} - {*scored}):
        raise ValueError(f"`gate.floors` names {', '.join(unknown)}, which is not scored: {', '.join(sorted(scored))}")


def drop_of(report: EvalReport, first: EvalReport, sets: Sequence[str], weights: Mapping[str, float] | None) -> float:
    """By how much the mean over `sets` lies below that of the weights the stream began with; negative if above."""
    return mean_score(first, sets, "compared", weights) - mean_score(report, sets, "compared", weights)


def _of_means(
    spec: GateSpec,
    candidate: EvalReport,
    live: EvalReport,
    roles: Roles,
    found: Mapping[str, SetMargin],
    weights: Weights,
) -> list[Check]:
    asked = [
        ("zero-shot retention", roles.retention, spec.retention),
        ("knowledge accumulation", roles.adaptation, spec.accumulation),
        *([("sets of the newest samples", roles.new, spec.new)] if roles.new else []),
        *((f"group {name}", roles.groups[name], least) for name, least in sorted(spec.groups.items())),
    ]
    return [
        _check(spec, name, mean_margin(candidate, live, found, sets, weights), least) for name, sets, least in asked
    ]


def _since_start(
    spec: GateSpec, candidate: EvalReport, first: EvalReport | None, live: EvalReport, roles: Roles, weights: Weights
) -> list[Check]:
    """At worst held: after a person let retention fall, candidates that keep what is left must not all be rejected."""
    if first is None or spec.since_start is None:
        return []
    sets = roles.retention
    apart = mean_margin(candidate, first, set_margins(candidate, first, sets), sets, weights)
    check = _check(spec, "zero-shot retention since the start", apart, spec.since_start)
    passes = check.outcome == "promote" or drop_of(candidate, live, sets, weights) <= 0
    return [check.model_copy(update={"against": "start", "outcome": "promote" if passes else "hold"})]


def _of_each(spec: GateSpec, found: Mapping[str, SetMargin]) -> list[Check]:
    """Every set by itself; p-values are adjusted for their number, or among many sets one always falls by chance."""
    if spec.each is None:
        return []
    known = [name for name, one in found.items() if one.p is not None]
    adjusted = dict(zip(known, holm([found[name].p for name in known]), strict=True))
    return [_of_one(spec, name, one, adjusted.get(name)) for name, one in found.items()]


def _of_one(spec: GateSpec, name: str, one: SetMargin, adjusted_p: float | None) -> Check:
    check = _check(spec, name, margin(one), spec.each)
    if adjusted_p is None or adjusted_p <= CHANCE or check.outcome == "promote":
        return check
    note = f"may be chance: {one.images} images, p = {adjusted_p:.2f} when adjusted for all sets"
    return check.model_copy(update={"outcome": "hold" if spec.strict else "promote", "note": note})


def _check(spec: GateSpec, name: str, found: Margin, least: float) -> Check:
    if found.low is None:
        outcome, note = "hold", "no outcomes of its images are kept: it cannot be compared image by image"
    else:
        outcome, note = _outcome(spec, found.difference, found.low, found.high, least), ""
    return Check(
        name=name, live=found.second, candidate=found.first, difference=found.difference, low=found.low,
        high=found.high, least=least, outcome=outcome, note=note,
    )  # fmt: skip


def _outcome(spec: GateSpec, difference: float, low: float, high: float, least: float) -> Outcome:
    if high < least - ROUNDING:
        return "reject"
    return "promote" if (low if spec.strict else difference) >= least - ROUNDING else "hold"


def _floor(spec: GateSpec, candidate: EvalReport, name: str, least: float) -> Check:
    value, (low, high) = primary(candidate)[name], score_interval(candidate, name)
    if low is None:  # a floor compares nothing, so the score alone can tell
        low = high = value
    apart = value - least
    return Check(
        name=f"floor of {name}", against="floor", live=None, candidate=value, difference=apart, low=low - least,
        high=high - least, least=least, outcome=_outcome(spec, value, low, high, least),
    )  # fmt: skip
