"""One dataset after the other: the dataset-incremental stream (FoMo-in-Flux, arXiv 2408.14471; reference 3.1)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from data_catalog.orderings.base import Background, Concept, Ordering, by_dataset, shuffled
from data_catalog.orderings.listed import listed_datasets


class DatasetByDataset(Ordering):
    """The concepts of a dataset shuffled, the datasets in random or alphabetical order, or as listed.

    A list names the datasets that take part, by any of their names; each must have training samples.
    """

    kind: Literal["dataset_by_dataset"] = "dataset_by_dataset"
    datasets: Literal["random", "alphabetical"] | tuple[str, ...] = "random"  # their order, or their names in order

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        known = by_dataset(concepts)
        return [concept for name in self._names(list(known), rng) for concept in shuffled(known[name], rng)]

    def _names(self, known: list[str], rng: np.random.Generator) -> list[str]:
        if isinstance(self.datasets, tuple):
            return listed_datasets("`datasets` of ordering dataset_by_dataset", self.datasets, set(known))
        return known if self.datasets == "alphabetical" else [known[i] for i in rng.permutation(len(known))]
