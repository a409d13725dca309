"""What every ordering offers: the order in which the concepts of a stream arrive."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_catalog.refs import Spec


class Concept(NamedTuple):
    """What an ordering orders: a class, or a topic, of one dataset."""

    dataset: str
    name: str


class Ordering(Spec):
    """A rule that puts concepts into the order in which they arrive."""

    def order(self, concepts: Sequence[Concept], rng: np.random.Generator) -> list[Concept]:
        """The concepts that take part, first to arrive first; every concept given has training samples."""
        raise NotImplementedError

    def content(self) -> str:
        """Digest of what the ordering reads besides its own fields, for cache keys; empty if it reads nothing."""
        return ""

    def located(self) -> "Ordering":
        """The same ordering with the places of its files made out; most read none."""
        return self
