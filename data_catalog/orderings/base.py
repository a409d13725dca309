"""What every ordering offers: the order in which the concepts of a stream arrive."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np

from data_catalog.concept_scores import ConceptScores, ScoreNeed
from data_catalog.refs import Spec


class Concept(NamedTuple):
    """What an ordering orders: a class, or a topic, of one dataset."""

    dataset: str
    name: str


class Background(NamedTuple):
    """What orderings may know besides the names of the concepts."""

    years: Mapping[str, int] = MappingProxyType({})  # of publication, by dataset, as far as known
    scores: ConceptScores | None = None  # what `needs` asked for


NO_BACKGROUND = Background()


class Ordering(Spec):
    """A rule that puts concepts into the order in which they arrive.

    A concept that a list names (a stream file, a query, datasets given by name) must have training samples; one that
    the list leaves out takes no part in the stream. All other orderings place every concept, or raise ValueError.
    """

    PLACES: ClassVar[frozenset[str]] = frozenset()  # fields that say where something lies: no part of the identity

    reverse: bool = False  # the same order backwards

    def order(
        self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background = NO_BACKGROUND
    ) -> list[Concept]:
        """The concepts that take part, first to arrive first; every concept given has training samples."""
        arranged = self.arrange(concepts, rng, background)
        return arranged[::-1] if self.reverse else arranged

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        """The order before `reverse`; what a variant defines."""
        raise NotImplementedError

    def content(self) -> str:
        """Digest of what the ordering reads besides its own fields, for cache keys; empty if it reads nothing."""
        return ""

    def identity(self) -> str:
        """What decides the order, wherever its files lie, as JSON."""
        fields = self.model_dump(mode="json", exclude=set(self.PLACES))
        return json.dumps([fields, self.content()], sort_keys=True)

    def located(self) -> "Ordering":
        """The same ordering with the places of its files made out; most read none."""
        return self

    def needs(self) -> ScoreNeed | None:
        """The scores of a model that `order` must be given in its background; None for most."""
        return None

    def dated(self, known: Mapping[str, int]) -> dict[str, int]:
        """The years of publication by dataset, from those known; an ordering may name more of its own."""
        return dict(known)


def shuffled(items: Sequence[Concept], rng: np.random.Generator) -> list[Concept]:
    """The items in random order, whatever order they came in."""
    known = sorted(items)
    return [known[i] for i in rng.permutation(len(known))]


def by_dataset(concepts: Sequence[Concept]) -> dict[str, list[Concept]]:
    """The concepts of each dataset, both sorted by name."""
    found: dict[str, list[Concept]] = {}
    for concept in sorted(concepts):
        found.setdefault(concept.dataset, []).append(concept)
    return found
