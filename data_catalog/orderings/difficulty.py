"""Easy concepts first (FoMo-in-Flux, arXiv 2408.14471, performance order; reference section 3.2).

The loss of the paper's ViT-L/14 on 50 pairs of a concept beside 50 of CC3M; `models/concept_scores.py` computes it.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from data_catalog.concept_scores import PairLosses, ScoredBy, ScoreNeed, values_of
from data_catalog.orderings.base import Background, Concept, Ordering


class Difficulty(Ordering):
    """Ascending contrastive loss of a checkpoint on a concept's pairs beside pairs of a reference pool."""

    PLACES = frozenset({"checkpoint", "reference", "pairs"})  # they decide the scores, and these have a digest

    kind: Literal["difficulty"] = "difficulty"
    checkpoint: ScoredBy | Literal["pretrained"] = "pretrained"  # whose losses count; pretrained: the first weights
    pairs: int = Field(50, ge=1)  # of each concept
    reference: tuple[str, ...] = ()  # of the pretraining datasets; empty: all of them

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        known = sorted(concepts)
        losses = values_of(background.scores, "pair_losses", known, self.kind)
        return [known[i] for i in np.argsort(losses, kind="stable")]

    def needs(self) -> ScoreNeed:
        return ScoreNeed(score=PairLosses(pairs=self.pairs), checkpoint=self.checkpoint, reference=self.reference)
