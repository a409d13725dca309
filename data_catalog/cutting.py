"""Cutting an ordered stream of concepts into steps (FoMo-in-Flux, arXiv 2408.14471; reference section 3.1)."""

from collections.abc import Hashable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Literal, get_args

import numpy as np

from data_catalog.orderings.base import Concept

Cut = Literal["equal", "by_dataset", "by_year"]
CUTS = get_args(Cut)


def chunks(n: int, steps: int) -> list[int]:
    """How many of `n` concepts arrive at each step: equal shares, the first n mod steps get one more."""
    if steps < 1 or steps > n:
        raise ValueError(f"{n} concepts cannot be spread over {steps} steps, expected 1 to {n} steps; change `steps`")
    size, rest = divmod(n, steps)
    return [size + 1] * rest + [size] * (steps - rest)


def cut_stream(
    stream: Sequence[Concept], cut: Cut, steps: int | None, years: Mapping[str, int] | None = None
) -> list[list[Concept]]:
    """The concepts of each step.

    `equal` makes the benchmark's chunks; `by_dataset` and `by_year` make one step of each dataset or year, which the
    stream must visit one after the other, and `steps` must be their number (None: whatever it is).
    """
    if cut == "equal":
        if steps is None:
            raise ValueError("equal chunks need a number of steps; give `steps`")
        ends = np.cumsum([0, *chunks(len(stream), steps)])
        return [list(stream[start:end]) for start, end in pairwise(ends)]
    groups = [concept.dataset if cut == "by_dataset" else _year(concept.dataset, years or {}) for concept in stream]
    _require_whole(groups, cut)
    found = [
        [concept for _, concept in pairs] for _, pairs in groupby(zip(groups, stream, strict=True), lambda p: p[0])
    ]
    if steps not in (None, len(found)):
        raise ValueError(
            f"cut {cut} makes {len(found)} steps of this stream, but `steps` is {steps}; set `steps` to {len(found)}"
        )
    return found


def _year(dataset: str, years: Mapping[str, int]) -> int:
    if dataset not in years:
        raise ValueError(f"the year of {dataset} is not known, so cut by_year cannot place it; give it in `years`")
    return years[dataset]


def _require_whole(groups: Sequence[Hashable], cut: Cut) -> None:
    """Raise ValueError if a group is left and visited again."""
    visits = [group for group, _ in groupby(groups)]
    if len(set(visits)) < len(visits):
        again = next(group for i, group in enumerate(visits) if group in visits[:i])
        fitting = "dataset_by_dataset or time" if cut == "by_dataset" else "time"
        raise ValueError(
            f"cut {cut} needs an ordering that takes each whole, but this one leaves {again} and comes back to it; "
            f"choose an ordering such as {fitting}, or cut equal"
        )
