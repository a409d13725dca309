"""A uniform shuffle of all concepts: the default order of FoMo-in-Flux (arXiv 2408.14471; reference section 3.2)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from data_catalog.orderings.base import Background, Concept, Ordering, shuffled


class Random(Ordering):
    """All concepts in random order; it depends on the set of concepts and the seed alone."""

    kind: Literal["random"] = "random"

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        return shuffled(concepts, rng)
