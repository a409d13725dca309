"""The concepts of each dataset in chunks that arrive together, the chunks of all datasets mixed."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import numpy as np
from pydantic import Field

from data_catalog.orderings.base import Background, Concept, Ordering, by_dataset, shuffled


class Chunked(Ordering):
    """Chunks of `size` concepts of one dataset, chosen at random in it, in random order or one of each dataset in turn.

    The last chunk of a dataset is shorter where `size` does not divide its number of concepts.
    """

    kind: Literal["chunked"] = "chunked"
    size: int = Field(ge=1)  # concepts per chunk
    chunks: Literal["shuffled", "round_robin"] = "shuffled"  # all shuffled, or one of each dataset in turn

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        chunks_of = [self._chunks(shuffled(dataset, rng)) for dataset in by_dataset(concepts).values()]
        if self.chunks == "round_robin":
            chunks = [chunk for turn in zip_longest(*chunks_of, fillvalue=[]) for chunk in turn]
        else:
            every = [chunk for chunks in chunks_of for chunk in chunks]
            chunks = [every[i] for i in rng.permutation(len(every))]
        return [concept for chunk in chunks for concept in chunk]

    def _chunks(self, concepts: list[Concept]) -> list[list[Concept]]:
        return [concepts[start : start + self.size] for start in range(0, len(concepts), self.size)]
