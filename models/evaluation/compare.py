"""Recipes of several experiments side by side: who is ahead at equal compute, and whether by more than chance."""

from collections.abc import Sequence
from itertools import count
from typing import NamedTuple

from data_catalog.refs import Spec
from models.evaluation.record import ExperimentRecord, RecipeRecord, StepRecord, find_record
from models.evaluation.report import check_comparable
from models.evaluation.scores import StepScores
from models.evaluation.significance import Comparison, compare

TOLERANCE = 0.01  # budgets that differ by less are equal: iterations are whole


class Contender(NamedTuple):
    """One recipe of one experiment, called `label` beside others."""

    label: str
    record: ExperimentRecord
    recipe: RecipeRecord
    number: int  # which its colour goes by: its place in its own experiment, where no other has that

    @property
    def mafs(self) -> float | None:
        """Used over the whole stream; None where a step does not say."""
        used = [step.mafs_used for step in self.recipe.trained]
        return None if None in used else sum(used)


class Standing(Spec):
    """Where one contender stands: at equal compute, and at the end of its own stream."""

    label: str
    mafs: float | None  # of its whole stream
    step: int | None  # the last that was scored within the common budget; null: none was
    equal: StepScores | None  # there
    final: StepScores


class Verdict(NamedTuple):
    """The leader against another: numbers, or the reason why there are none."""

    label: str
    found: Comparison | None
    reason: str = ""


def contenders(names: Sequence[str]) -> list[Contender]:
    """All recipes of the experiments named; `EXPERIMENT/RECIPE` names one.

    Labels leave out what all have in common. Raises ValueError for names that are unknown, for fewer than two recipes,
    and for experiments whose means are not of the same sets.
    """
    found = [pair for name in dict.fromkeys(names) for pair in _named(name)]
    if len(found) < 2:
        raise ValueError(f"{', '.join(names)}: one recipe; name two or more, or an experiment that has several")
    for _, record, _ in found[1:]:
        check_comparable(found[0][1], record)
    several = len({experiment for experiment, _, _ in found}) > 1
    alone = len({recipe.name for _, _, recipe in found}) == 1
    labels = [
        experiment if several and alone else f"{experiment}/{recipe.name}" if several else recipe.name
        for experiment, _, recipe in found
    ]
    unique = dict(zip(labels, found, strict=True))  # an experiment and one of its recipes may both be named
    places = [record.recipes.index(recipe) for _, record, recipe in unique.values()]
    return [
        Contender(label, record, recipe.model_copy(update={"name": label}), number)
        for (label, (_, record, recipe)), number in zip(unique.items(), _unlike(places), strict=True)
    ]


def common_mafs(found: Sequence[Contender]) -> float | None:
    """The compute that all of them have used: the least of their totals; None if one does not say."""
    used = [contender.mafs for contender in found]
    return None if None in used else min(used)


def standings(found: Sequence[Contender]) -> list[Standing]:
    """By falling geometric mean at equal compute, or at the end where compute is not known; without one at the end."""
    budget = common_mafs(found)
    rows = []
    for contender in found:
        at = within(contender, budget)
        rows.append(Standing(
            label=contender.label, mafs=contender.mafs, step=at and at.step, equal=at and at.summary,
            final=contender.recipe.steps[-1].summary,
        ))  # fmt: skip
    return sorted(rows, key=lambda row: -row.equal.geometric_mean if row.equal else 1)


def within(contender: Contender, budget: float | None) -> StepRecord | None:
    """The last scored step that cost no more than `budget` MAFs in all; the last of all without a budget."""
    if budget is None:
        return contender.recipe.steps[-1]
    used, chosen = 0.0, None
    for step in contender.recipe.trained:
        used += step.mafs_used
        if isinstance(step, StepRecord) and used <= budget * (1 + TOLERANCE):
            chosen = step
    return chosen


def against(found: Sequence[Contender], leader: str) -> list[Verdict]:
    """The contender labelled `leader` against each other one, image by image, both at equal compute."""
    budget, pairs = common_mafs(found), len(found) * (len(found) - 1) // 2  # any of which might have come out on top
    first = next(contender for contender in found if contender.label == leader)
    return [_verdict(first, other, budget, pairs) for other in found if other.label != leader]


def _verdict(first: Contender, other: Contender, budget: float | None, pairs: int) -> Verdict:
    ends = [within(contender, budget) for contender in (first, other)]
    if None in ends:
        return Verdict(other.label, None, "no step within the common budget was scored")
    record = first.record
    try:
        sets = record.eval_sets, other.record.eval_sets
        found = compare(*(end.scores for end in ends), record.adaptation, record.retention, record.weights, sets, pairs)
        return Verdict(other.label, found)
    except ValueError as error:  # other images, or a run from before outcomes were kept
        return Verdict(other.label, None, str(error))


def _unlike(places: Sequence[int]) -> list[int]:
    """The places, where one occurs again the least number that is not among them."""
    spare = (number for number in count() if number not in places)
    return [next(spare) if place in places[:at] else place for at, place in enumerate(places)]


def _named(name: str) -> list[tuple[str, ExperimentRecord, RecipeRecord]]:
    experiment, _, wanted = name.partition("/")
    record = find_record(experiment)
    chosen = [recipe for recipe in record.recipes if wanted in ("", recipe.name)]
    if not chosen:
        raise ValueError(f"{experiment} has no recipe {wanted!r}, only {', '.join(r.name for r in record.recipes)}")
    return [(experiment, record, recipe) for recipe in chosen]
