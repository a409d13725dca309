"""Which samples of a pool a step sees: pure functions of the rows in the pool, the step and the seed."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from data_catalog.refs import Spec
from data_catalog.seeds import rng


class PoolRows(NamedTuple):
    """The rows of one pool in the order of the stream, as columns; those a policy does not use are None."""

    step: np.ndarray  # at which the sample arrived; -1 in the pretraining pool
    dataset: np.ndarray  # place of the name in `names`
    names: tuple[str, ...]  # of the datasets, sorted
    concept: np.ndarray | None = None  # equal numbers for equal concepts of one dataset, also for "none"
    score: np.ndarray | None = None  # CLIP score of the training text; NaN where there is none


class Policy(Spec):
    """Which samples of a pool may be drawn, and how often each: by default all, equally often."""

    USES: ClassVar[frozenset[str]] = frozenset()  # the columns of PoolRows it needs, of `concept` and `score`

    def kept(self, rows: PoolRows, seed: int) -> np.ndarray:
        """The positions that may be drawn, ascending."""
        return np.arange(len(rows.step))

    def weights(self, rows: PoolRows, step: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Relative frequency of each row and the group whose total is kept exact; None if all rows are equal."""
        return None

    def draw(self, rows: PoolRows, count: int, virtual_length: int, step: int, seed: int, pool: str) -> np.ndarray:
        """The positions of `count` draws, in the order in which they are seen."""
        kept = self.kept(rows, seed)
        weighted = self.weights(_taken(rows, kept), step)
        if weighted is None:
            return kept[draw(len(kept), count, virtual_length, seed, step, pool)]
        return kept[draw_weighted(*weighted, count, rng(seed, "draw", step, pool))]


def draw(pool_size: int, count: int, virtual_length: int, seed: int, step: int, pool: str) -> np.ndarray:
    """Which `count` samples of a pool a step sees, in order; a pure function of its arguments.

    A pool smaller than `virtual_length` is repeated to that length and shuffled as a whole, so that in a full pass
    every sample appears equally often up to one; a larger one is shuffled without repetition.
    """
    length = max(pool_size, virtual_length)
    if pool_size < 1 or count > length:
        raise ValueError(f"cannot draw {count} samples from {pool_size} of the {pool} pool in one pass of {length}")
    return rng(seed, "draw", step, pool).permutation(length)[:count] % pool_size


def draw_weighted(weights: np.ndarray, groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` positions in random order, each about as often as its share of `weights` says.

    Systematic sampling: a row whose fair number of draws is x appears floor(x) or ceil(x) times, on average x, so none
    repeats while another with the same weight is left out; the totals of `groups` are exact to one draw in the same
    way. Groups count by first appearance, so their numbers do not matter.
    """
    total = weights.sum()
    if not total > 0:
        raise ValueError(f"cannot draw {count} samples: all {len(weights)} rows of the pool have the weight 0")
    mixed = rng.permutation(len(weights))
    order = mixed[np.argsort(by_first_appearance(groups)[mixed], kind="stable")]
    fair = np.minimum(np.cumsum(weights[order]) * (count / total), count)
    fair[-1] = count  # whatever the rounding of the sum
    ends = np.floor(fair + rng.random()).astype(np.int64)
    drawn = np.repeat(order, np.diff(ends, prepend=0))
    return rng.permutation(drawn)


def by_first_appearance(labels: np.ndarray) -> np.ndarray:
    """The same classes of rows, numbered from 0 in the order in which they appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def balanced(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights that give every group the same total, shared equally inside it, and the groups."""
    ranked = by_first_appearance(groups)
    return 1 / np.bincount(ranked)[ranked], ranked


def best_scored(rows: PoolRows, share: float) -> np.ndarray:
    """The `share` of each dataset with the highest scores, at least one sample, ascending; earlier rows win ties."""
    if missing := int(np.isnan(rows.score).sum()):
        first = rows.names[rows.dataset[np.isnan(rows.score).argmax()]]
        raise ValueError(
            f"{missing} of {len(rows.score)} samples have no CLIP score, first one of {first}: score the captions of "
            "every dataset of the pool first, or choose a policy without scores"
        )
    order = np.lexsort((-rows.score, rows.dataset))  # stable: dataset by dataset, the best first
    sizes = np.bincount(rows.dataset, minlength=len(rows.names))
    place = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[rows.dataset[order]]
    wanted = np.ceil(share * sizes - 1e-9)  # of 10 samples, .3 keeps 3 however .3 is rounded
    return np.sort(order[place < wanted[rows.dataset[order]]])


def interleaved(parts: Sequence[np.ndarray], iterations: int) -> np.ndarray:
    """The parts of all batches as one sequence: batch after batch, and in each the parts in their order."""
    return np.concatenate([part.reshape(iterations, -1) for part in parts], axis=1).ravel()


def _taken(rows: PoolRows, kept: np.ndarray) -> PoolRows:
    if len(kept) == len(rows.step):
        return rows
    columns = {name: getattr(rows, name) for name in ("step", "dataset", "concept", "score")}
    return rows._replace(**{name: None if column is None else column[kept] for name, column in columns.items()})
