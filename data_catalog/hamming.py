"""All pairs of 64-bit hashes within a few bits of each other, without comparing all with all.

The pigeonhole of multi-index hashing (Norouzi et al. 2012, arXiv 1307.2982): cut 64 bits into `distance + agreeing`
blocks, and two hashes within `distance` bits have at least `agreeing` equal blocks. So for every choice of that many
blocks, only hashes that are equal there are compared. Nothing within the distance is missed.
"""

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise
from math import comb

import numpy as np

from data_catalog.components import Components

BITS = 64
MOST_BLOCKS = 16
SORT_COST = 30  # of one hash in one sort, in comparisons of one pair
PAIRS_AT_ONCE = 1 << 22  # bounds the memory: some 100 MB
LONG_RUN = 256  # hashes of one bucket from which on blocks of a matrix are quicker than shifted rows


def close_components(
    hashes: np.ndarray, distance: int, progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """A label per hash (uint64 [n]), equal for those that a chain of steps of at most `distance` bits connects.

    Equal hashes are one node however many there are, so a million black images cost no more than one.
    """
    distinct, place = np.unique(hashes, return_inverse=True)
    components = Components(len(distinct))
    if distance:
        _join_close(distinct, distance, components, progress or (lambda done, total: None))
    return components.labels[place]


def _join_close(
    distinct: np.ndarray, distance: int, components: Components, progress: Callable[[int, int], None]
) -> None:
    masks = block_masks(distance, choose_agreeing(len(distinct), distance))
    for done, mask in enumerate(masks, start=1):
        for left, right in _close_within_buckets(distinct, mask, distance, components):
            components.join(left, right)
        progress(done, len(masks))


def choose_agreeing(count: int, distance: int) -> int:
    """How many blocks to let agree for the least work: more of them mean more sorts of smaller buckets."""

    def cost(agreeing: int) -> float:
        blocks = distance + agreeing
        bucket = count / 2 ** (BITS * agreeing / blocks)
        return comb(blocks, agreeing) * count * (SORT_COST + bucket / 2)

    return min(range(1, max(MOST_BLOCKS - distance, 1) + 1), key=cost)


def block_masks(distance: int, agreeing: int) -> list[np.uint64]:
    """The bits that are compared for equality, for each choice of `agreeing` out of `distance + agreeing` blocks."""
    edges = [BITS * i // (distance + agreeing) for i in range(distance + agreeing + 1)]
    blocks = [(1 << stop) - (1 << start) for start, stop in pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in combinations(blocks, agreeing)]


def _close_within_buckets(
    hashes: np.ndarray, mask: np.uint64, distance: int, known: Components
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions of pairs that are equal under `mask` and within `distance`, some at a time.

    A long bucket is passed over when all of it is joined already: its pairs would change nothing.
    """
    order = np.argsort(hashes & mask, kind="stable")
    ordered = hashes[order]
    keys = ordered & mask
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    stops = np.append(starts[1:], len(keys))
    is_long = stops - starts > LONG_RUN
    for left, right in _pairs_of_short_runs(ordered, starts[~is_long], stops[~is_long], distance):
        yield order[left], order[right]
    for start, stop in zip(starts[is_long].tolist(), stops[is_long].tolist(), strict=True):
        if np.ptp(known.labels[order[start:stop]]):
            for left, right in _pairs_of_long_run(ordered[start:stop], distance):
                yield order[start + left], order[start + right]


def _pairs_of_short_runs(
    ordered: np.ndarray, starts: np.ndarray, stops: np.ndarray, distance: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each hash against the one `shift` places on in its run, for shift 1, 2, ..."""
    lengths = stops - starts
    keep = lengths > 1
    left = _ranges(starts[keep], lengths[keep])
    end = np.repeat(stops[keep], lengths[keep])
    shift = 1
    while len(left):
        inside = left + shift < end
        left, end = left[inside], end[inside]
        near = np.bitwise_count(ordered[left] ^ ordered[left + shift]) <= distance
        if near.any():
            yield left[near], left[near] + shift
        shift += 1


def _pairs_of_long_run(hashes: np.ndarray, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rows = max(1, PAIRS_AT_ONCE // len(hashes))
    for start in range(0, len(hashes), rows):
        near = np.bitwise_count(hashes[start : start + rows, None] ^ hashes[None, start:]) <= distance
        left, right = np.nonzero(near)
        later = right > left
        yield left[later] + start, right[later] + start


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The places starts[i] .. starts[i] + lengths[i] - 1 of every run, one after another."""
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
