"""Bootstrap intervals (Efron & Tibshirani 1993, chapters 13 and 15) from counts of distinct rows, never from copies.

Drawing n rows with replacement and counting each distinct row is one multinomial draw, so a thousand resamplings of
50,000 images cost as much as there are distinct rows, which for hits and misses are two. Nothing is approximated.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from data_catalog.seeds import rng

REPLICATES = 1_000
SIGN_FLIPS = 20_000  # so that a p-value is at least 5e-5
COVERAGE = 0.95
CELLS_AT_ONCE = 1 << 21  # of [replicates, distinct rows] that exist at a time: 16 MB


class Difference(NamedTuple):
    """By how much the mean of `a` exceeds that of `b`, with its interval and two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def generator(*path: str) -> np.random.Generator:
    """The generator for one dataset and metric: equal names draw equally, in any run and beside any other set."""
    return rng(0, "bootstrap", *path)


def resampled_sums(rows: np.ndarray, draw: np.random.Generator, replicates: int = REPLICATES) -> np.ndarray:
    """Column sums of `rows` [n, columns] resampled with replacement: [replicates, columns]; their order is no matter.

    Raises ValueError where there is no row.
    """
    if not len(rows):
        raise ValueError("no rows to resample: an interval needs at least one image")
    distinct, counts = _distinct(rows)
    share = counts / counts.sum()
    sizes = _chunks(replicates, len(distinct))
    drawn = (draw.multinomial(len(rows), share, size=size) for size in sizes)  # [replicates, distinct rows]
    return np.concatenate([np.einsum("rd,dc->rc", counts, distinct) for counts in drawn])  # no BLAS: no threads


def resampled_share(hits: int, samples: int, draw: np.random.Generator, replicates: int = REPLICATES) -> np.ndarray:
    """The share of hits among `samples` images resampled with replacement: [replicates], a binomial draw each."""
    return draw.binomial(samples, hits / samples, size=replicates) / samples


def between(replicates: np.ndarray, coverage: float = COVERAGE) -> tuple[float, float]:
    """The percentile interval that `coverage` of the replicates lie in."""
    outside = (1 - coverage) / 2
    low, high = np.quantile(replicates, [outside, 1 - outside])
    return float(low), float(high)


def interval(values: Sequence[float] | np.ndarray, *path: str) -> tuple[float, float]:
    """The percentile interval of the mean of `values` [n], drawn by the generator of `path`: dataset and metric."""
    column = np.asarray(values, dtype=np.float64)[:, None]
    return between(resampled_sums(column, generator(*path))[:, 0] / len(column))


def difference(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, *path: str) -> Difference:
    """Mean of `a` minus mean of `b`, both over the same images in the same order.

    The interval resamples images with both their values; p is that of flipping the signs of the differences at random
    (for hits and misses McNemar's test). Raises ValueError where the lengths differ or are 0.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if a.shape != b.shape or not len(a):
        raise ValueError(f"{len(a)} and {len(b)} values cannot be paired: both must be of the same images, at least 1")
    apart = a - b
    low, high = interval(apart, *path, "difference")
    return Difference(float(apart.mean()), low, high, _sign_flip_p(apart, generator(*path, "signs")))


def flipped_sums(apart: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Sums of the differences `apart` [n] under random signs: [SIGN_FLIPS]; the signs they have are no matter."""
    sizes, counts = np.unique(np.abs(apart[apart != 0]), return_counts=True)
    chunks = _chunks(SIGN_FLIPS, len(sizes))
    positive = (draw.binomial(counts, 0.5, size=(flips, len(counts))) for flips in chunks)  # how many of each size
    return np.concatenate([((2 * some - counts) * sizes).sum(1) for some in positive])


def _sign_flip_p(apart: np.ndarray, draw: np.random.Generator) -> float:
    """Share of random signs under which the sum is as far from 0 as the one found, which counts as one of them."""
    found = abs(apart.sum()) - 1e-12 * np.abs(apart).sum()  # sums that are equal but for rounding are as far
    as_far = np.count_nonzero(np.abs(flipped_sums(apart, draw)) >= found)
    return float((1 + as_far) / (1 + SIGN_FLIPS))


def _chunks(replicates: int, columns: int) -> list[int]:
    chunk = max(1, CELLS_AT_ONCE // max(1, columns))
    return [min(chunk, replicates - start) for start in range(0, replicates, chunk)]


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if rows.shape[1] == 1:
        distinct, counts = np.unique(rows[:, 0], return_counts=True)
        return distinct[:, None], counts
    return np.unique(rows, axis=0, return_counts=True)
