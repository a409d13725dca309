"""The gate: whether a candidate may take the place of the live model, judged image by image on the same images.

Differences are paired and have bootstrap intervals (see `models.evaluation.significance`). A check passes if the
candidate is as good as it has to be, fails if even the favourable end of the interval is not, and is otherwise for a
person to decide.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from data_catalog.refs import Spec
from models.evaluation.scores import EvalReport, primary
from models.evaluation.significance import Paired, compare
from models.evaluation.summaries import Weights

Outcome = Literal["promote", "hold", "reject"]
Least = Annotated[float, Field(ge=-1, le=1)]
_SEVERITY: dict[Outcome, int] = {"promote": 0, "hold": 1, "reject": 2}


class GateSpec(Spec):
    """How much worse than the live model a candidate may be; each number is the least difference that passes."""

    retention: Least = Field(-0.01, description="candidate minus live, zero-shot retention")
    accumulation: Least = Field(-0.01, description="candidate minus live, knowledge accumulation so far")
    new: Least = Field(0.0, description="candidate minus live, mean over the sets that the newest samples belong to")
    groups: dict[str, Least] = Field(
        default_factory=dict, description="candidate minus live, by name of a group in `evaluation.groups`"
    )
    each: Least | None = Field(-0.1, description="candidate minus live on every single set; null: not looked at")
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
    live: float | None  # none of a floor
    candidate: float
    difference: float
    low: float  # 95 % of bootstrap samples of the difference lie between low and high
    high: float
    least: float
    outcome: Outcome

    def spoken(self) -> str:
        """The check in words."""
        if self.live is None:
            return f"{self.name}: {self.candidate:.3f}, must reach {self.least:.3f}"
        return (
            f"{self.name}: {self.candidate:.3f} against {self.live:.3f} live, a difference of {self.difference:+.3f} "
            f"[{self.low:+.3f}, {self.high:+.3f}], at least {self.least:+.3f}"
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


def judge(spec: GateSpec, candidate: EvalReport, live: EvalReport, roles: Roles, weights: Weights = None) -> Verdict:
    """The verdict on `candidate` against `live`, both scored on the same images.

    Raises ValueError for a group or a floor of a set that was not scored.
    """
    checks = [*_of_groups(spec, candidate, live, roles, weights), *_floors(spec, candidate, roles)]
    worst = max((check.outcome for check in checks), key=_SEVERITY.__getitem__)
    reasons = [check.spoken() for check in checks if check.outcome == worst != "promote"]
    if worst == "promote":
        reasons = ["every check passed"]
        if not spec.automatic:
            worst, reasons = "hold", ["every check passed, and `gate.automatic` is off"]
    return Verdict(
        outcome=worst, reasons=tuple(reasons), checks=tuple(checks), candidate=candidate.checkpoint,
        live=live.checkpoint,
    )  # fmt: skip


def _of_groups(spec: GateSpec, candidate: EvalReport, live: EvalReport, roles: Roles, weights: Weights) -> list[Check]:
    if unknown := sorted({*spec.groups} - {*roles.groups}):
        raise ValueError(
            f"`gate.groups` names {', '.join(unknown)}, expected groups of `evaluation.groups`: "
            f"{', '.join(sorted(roles.groups)) or 'none are defined'}"
        )
    both = compare(candidate, live, roles.adaptation, roles.retention, weights)
    accumulation, retention = both.summaries[0], both.summaries[1]
    checks = [
        _check(spec, "zero-shot retention", retention, spec.retention),
        _check(spec, "knowledge accumulation", accumulation, spec.accumulation),
    ]
    if roles.new:
        checks.append(_check(spec, "sets of the newest samples", _mean(candidate, live, roles.new, weights), spec.new))
    for name, least in sorted(spec.groups.items()):
        checks.append(_check(spec, f"group {name}", _mean(candidate, live, roles.groups[name], weights), least))
    if spec.each is not None:
        checks += [_check(spec, row.name, row, spec.each) for row in _every(both.datasets, candidate, live, roles)]
    return checks


def _every(compared: Sequence[Paired], candidate: EvalReport, live: EvalReport, roles: Roles) -> list[Paired]:
    """Every scored set: those of the two means, and the user's own beside them."""
    known = {row.name for row in compared}
    beside = sorted({name for sets in roles.groups.values() for name in sets} - known)
    return [*compared, *(compare(candidate, live, beside, beside).datasets if beside else ())]


def _mean(candidate: EvalReport, live: EvalReport, sets: Sequence[str], weights: Weights) -> Paired:
    return compare(candidate, live, sets, sets, weights).summaries[0]


def _check(spec: GateSpec, name: str, found: Paired, least: float) -> Check:
    if found.high < least:
        outcome: Outcome = "reject"
    elif (found.low if spec.strict else found.difference) >= least:
        outcome = "promote"
    else:
        outcome = "hold"
    return Check(
        name=name, live=found.second, candidate=found.first, difference=found.difference, low=found.low,
        high=found.high, least=least, outcome=outcome,
    )  # fmt: skip


def _floors(spec: GateSpec, candidate: EvalReport, roles: Roles) -> list[Check]:
    values = primary(candidate)
    if unknown := sorted({*spec.floors} - {*values}):
        raise ValueError(f"`gate.floors` names {', '.join(unknown)}, which is not scored: {', '.join(sorted(values))}")
    return [_floor(name, values[name], least) for name, least in sorted(spec.floors.items())]


def _floor(name: str, value: float, least: float) -> Check:
    apart = value - least
    return Check(
        name=f"floor of {name}", live=None, candidate=value, difference=apart, low=apart, high=apart, least=least,
        outcome="promote" if value >= least else "reject",
    )  # fmt: skip


def drop_of(report: EvalReport, first: EvalReport, sets: Sequence[str], weights: Mapping[str, float] | None) -> float:
    """By how much the mean over `sets` lies below that of the weights the stream began with; negative if above."""
    return -_mean(report, first, sets, weights).difference
