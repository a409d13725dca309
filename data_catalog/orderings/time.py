"""Datasets in the order of their publication (FoMo-in-Flux, arXiv 2408.14471, time-incremental; reference 3.2)."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from pydantic import Field

from data_catalog import registry
from data_catalog.orderings.base import Background, Concept, Ordering, by_dataset, shuffled


class Time(Ordering):
    """Oldest year first; the concepts of one year shuffled together, or dataset by dataset inside it, by name.

    A year given here replaces the one that came with the dataset; a dataset without either is an error.
    """

    kind: Literal["time"] = "time"
    inside: Literal["shuffled", "by_dataset"] = "shuffled"  # the paper's rsagg and dschunked files
    years: dict[str, int] = Field(default_factory=dict)  # by dataset

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        datasets = by_dataset(concepts)
        known = self.dated(background.years)
        if unknown := sorted(set(datasets) - set(known)):
            raise ValueError(
                f"ordering time: the year of {', '.join(unknown[:5])} is not known ({len(unknown)} datasets in all); "
                "give it in `years` of the ordering, or in the facts of the dataset"
            )
        if surplus := sorted(set(self.years) - set(datasets)):
            raise ValueError(
                f"ordering time gives a year to {surplus[0]!r}, which has no training samples here; "
                f"{registry.close_to(surplus[0], datasets)}"
            )
        oldest_first = sorted(datasets, key=lambda name: (known[name], name))
        years = groupby(oldest_first, key=known.__getitem__)
        return [concept for _, names in years for concept in self._year([datasets[name] for name in names], rng)]

    def _year(self, datasets: list[list[Concept]], rng: np.random.Generator) -> list[Concept]:
        if self.inside == "shuffled":
            return shuffled([concept for dataset in datasets for concept in dataset], rng)
        return [concept for dataset in datasets for concept in shuffled(dataset, rng)]

    def dated(self, known: Mapping[str, int]) -> dict[str, int]:
        return {**known, **self.years}
