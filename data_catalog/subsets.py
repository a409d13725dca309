"""Fixed subsets of evaluation sets (FoMo-in-Flux, arXiv 2408.14471; reference 9.3): stored lists of positions.

Upstream cuts the set itself, so that a second evaluation cuts the subset once more; here a list is chosen from the
whole split, stored, and applied to nothing but the evaluation set that is made with it. Captions of retrieval sets
belong to all their images, so these are never cut, where upstream keeps 300 images of FSCOCO with all its captions.
"""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import store
from data_catalog.refs import Ref
from data_catalog.seeds import rng
from data_catalog.shards import DatasetRef, facts

PER_CLASS, AT_LEAST = 2, 300  # images that a subset has at least: so many of each class, and so many in all


class SubsetRef(Ref):
    """Some images of a split by their positions in it; the digest names a table with the one column `position`."""

    dataset: str  # digest of the sample table
    split: str
    samples: int
    of: int  # images in the whole split


def subset_size(samples: int, classes: int, share: float) -> int:
    """How many of so many samples a subset has: the share, but enough of them to say something of every class."""
    return min(samples, max(PER_CLASS * classes, AT_LEAST, int(share * samples)))


def choose(targets: np.ndarray, classes: int, share: float, random: np.random.Generator) -> np.ndarray:
    """Positions of a subset of samples with these `targets` [samples], sorted: equally many of each class, as far as
    there are so many, then any of the rest."""
    size = subset_size(len(targets), classes, share)
    per_class = size // classes
    taken = np.zeros(len(targets), bool)
    by_class = np.argsort(targets, kind="stable")
    ends = np.searchsorted(targets[by_class], np.arange(classes + 1))
    for first, last in itertools.pairwise(ends):
        taken[random.permutation(by_class[first:last])[:per_class]] = True
    rest = np.flatnonzero(~taken)
    taken[random.choice(rest, size - int(taken.sum()), replace=False)] = True
    return np.flatnonzero(taken)


def compose_subset(dataset: DatasetRef, split: str, share: float, seed: int) -> SubsetRef:
    """A subset of one split of a dataset; of a retrieval set all images.

    Equal for the same images, share and seed, whatever else is scored. Raises ValueError for a split without samples.
    """
    samples = store.read_table(dataset.digest, ["split", "target"]).filter(pc.field("split") == split)
    if not samples.num_rows:
        raise ValueError(f"{dataset.name} has no sample in split {split!r}, only in {sorted(dataset.samples)}")
    if dataset.kind == "retrieval":
        positions = np.arange(samples.num_rows)
    else:
        targets = samples["target"].to_numpy()
        positions = choose(targets, len(facts(dataset).classnames), share, rng(seed, "subset", dataset.name, split))
    origin = {"stage": "compose_subset", "dataset": dataset, "split": split, "share": share, "seed": seed}
    digest = store.write_table(pa.table({"position": pa.array(positions, pa.int32())}), **origin)
    return SubsetRef(digest=digest, dataset=dataset.digest, split=split, samples=len(positions), of=samples.num_rows)


def positions_of(subset: SubsetRef) -> pa.Array:
    """The positions in a subset, sorted."""
    return store.read_table(subset.digest)["position"].combine_chunks()
