"""What a search over merges found: a row per candidate, which of them are best, and what they trade."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from data_catalog.eval_sets import EvalSet
from data_catalog.refs import Spec
from data_catalog.validation import validation_name
from models.evaluation.scores import EvalReport, StepScores, summarise
from models.merging import AnyTechnique
from models.merging.search import settings_of


class Trial(Spec):
    """One candidate and what its merge scored on validation images."""

    technique: AnyTechnique
    checkpoint: str  # digest of the merge
    knowledge_accumulation: float = Field(ge=0, le=1)
    zero_shot_retention: float = Field(ge=0, le=1)
    geometric_mean: float = Field(ge=0, le=1)
    on_front: bool  # no other candidate is at least as good in both and better in one
    is_best: bool  # highest geometric mean; the first of equals


class SearchReport(Spec):
    """All trials of one search, in the order they were made."""

    experiment: str
    recipe: str
    step: int
    merged: tuple[str, ...]  # digests of what every candidate merges
    adaptation: tuple[str, ...]  # the sets whose mean is the knowledge accumulation here
    retention: tuple[str, ...]
    trials: tuple[Trial, ...] = Field(min_length=1)

    @property
    def best(self) -> Trial:
        """The trial to deploy."""
        return next(trial for trial in self.trials if trial.is_best)

    def rows(self) -> list[dict[str, Any]]:
        """The trials as a table, best first."""
        ranked = sorted(self.trials, key=lambda trial: (-trial.geometric_mean, not trial.is_best))
        return [
            {
                "technique": trial.technique.kind,
                "settings": ", ".join(f"{name}={value}" for name, value in settings_of(trial.technique).items()),
                **trial.model_dump(include={"knowledge_accumulation", "zero_shot_retention", "geometric_mean"}),
                "front": "yes" if trial.on_front else "",
                "best": "yes" if trial.is_best else "",
            }
            for trial in ranked
        ]


def validated(
    report: EvalReport,
    step: int,
    adaptation: Sequence[str],
    retention: Sequence[str],
    sets: Sequence[EvalSet],
    weights: Mapping[str, float] | None = None,
) -> StepScores:
    """The summary of a report on validation sets, over those of the named datasets that have one.

    `weights`: of datasets in the means, 1 where not named.
    """
    known = {some.name for some in sets}
    chosen = [[validation_name(name) for name in names if validation_name(name) in known]
              for names in (adaptation, retention)]  # fmt: skip
    shares = {validation_name(name): weight for name, weight in (weights or {}).items()}
    return summarise(step, report, *chosen, shares)


def trials(
    candidates: Sequence[AnyTechnique], checkpoints: Sequence[str], scores: Sequence[StepScores]
) -> tuple[Trial, ...]:
    """One trial per candidate, with the front and the best marked."""
    means = [some.geometric_mean for some in scores]
    front = non_dominated(np.array([[s.knowledge_accumulation, s.zero_shot_retention] for s in scores]))
    return tuple(
        Trial(technique=technique, checkpoint=checkpoint, on_front=bool(front[i]), is_best=i == means.index(max(means)),
              **scores[i].model_dump(exclude={"step"}))
        for i, (technique, checkpoint) in enumerate(zip(candidates, checkpoints, strict=True))
    )  # fmt: skip


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Which rows of `points` [n, 2] no other beats by being as high in both columns and higher in one; bool [n]."""
    at_least = (points[None] >= points[:, None]).all(2)  # [row, other]
    higher = (points[None] > points[:, None]).any(2)
    return ~(at_least & higher).any(1)
