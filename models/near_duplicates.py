"""Which samples show the same picture to a checkpoint: cosine similarity by matrix products of tiles.

The matrix of all pairs is never whole: one tile of it exists at a time, and of the vectors float16 is kept (2.6 GB for
2.5 million of 512 dimensions), on the GPU if there is one.
"""

from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from data_catalog import store
from data_catalog.components import Components
from data_catalog.duplicates import (
    MEMBER,
    UNREAD,
    DuplicateGroups,
    DuplicateSearch,
    group_table,
    is_searched,
    store_groups,
)
from models.embeddings import EmbeddingsRef, Progress, images_of, load_embeddings

TILES = {"cpu": 4096, "cuda": 16384}  # rows of a tile: 80 MB and 0.8 GB with the mask
SLACK = 0.004  # half precision is that far off at most; what it lets through is computed again
PAIRS_AT_ONCE = 1 << 15  # computed again together: 0.3 GB at 512 dimensions


def find_near_duplicates(
    embeddings: Sequence[EmbeddingsRef],
    search: DuplicateSearch,
    candidates: DuplicateGroups | None = None,
    progress: Progress | None = None,
    tile: int | None = None,
) -> DuplicateGroups:
    """Groups of samples that a chain of cosines of at least `search.similarity` connects, in any order of the inputs.

    `candidates`: compare only within the perceptual groups of an earlier search with a generous distance, which skips
    the product; its other samples count as not compared. Raises ValueError on embeddings of different checkpoints.
    """
    parts = sorted(_searched(embeddings, search), key=lambda part: part[0])
    rows = pa.concat_tables([rows for _, _, rows in parts])
    vectors = np.concatenate([load_embeddings(ref) for _, ref, _ in parts])
    components = Components(len(rows))
    if candidates is None:
        _join_similar(vectors, search.similarity, components, progress, tile)
        labels = components.labels
    else:
        group = _candidate_groups(rows, candidates)
        for left, right in _pairs_within(group):
            _join_verified(vectors, left, right, search.similarity, components)
        labels = np.where(group >= 0, components.labels, UNREAD)
    table = group_table("embedding", rows, labels, lambda first, member: 1 - _cosines(vectors, first, member))
    tables = {name: ref.dataset for name, ref, _ in parts}
    origin = {"stage": "find_near_duplicates", "search": search, "embeddings": [ref for _, ref, _ in parts]}
    return store_groups(tables, {"embedding": (labels, table)}, **origin)


def _searched(
    embeddings: Sequence[EmbeddingsRef], search: DuplicateSearch
) -> list[tuple[str, EmbeddingsRef, pa.Table]]:
    """Name, reference and rows of the datasets that `search` looks at."""
    if len(checkpoints := {ref.checkpoint for ref in embeddings}) != 1:
        raise ValueError(
            f"embeddings of {len(checkpoints)} checkpoints, expected one: only vectors of the same weights compare"
        )
    parts = [(ref, images_of(ref.dataset, ref.splits, MEMBER)) for ref in embeddings]
    named = [(rows["dataset"][0].as_py(), ref, rows) for ref, rows in parts]
    return list(compress(named, is_searched(search, [name for name, _, _ in named])))


def _join_similar(
    vectors: np.ndarray, similarity: float, components: Components, progress: Progress | None, tile: int | None
) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = tile or TILES[device]
    starts = range(0, len(vectors), size)
    tiles = [torch.from_numpy(vectors[start : start + size]).to(device) for start in starts]
    for done, (start, rows) in enumerate(zip(starts, tiles, strict=True), start=1):
        for other in range(done - 1, len(tiles)):
            left, right = _similar_within_tile(rows, tiles[other], similarity - SLACK)
            later = left + start < right + starts[other]
            _join_verified(vectors, left[later] + start, right[later] + starts[other], similarity, components)
        if progress:
            progress("compare embeddings", done, len(tiles))


def _similar_within_tile(rows: Tensor, columns: Tensor, similarity: float) -> tuple[np.ndarray, np.ndarray]:
    if rows.device.type == "cpu":  # whose half precision product is slow
        rows, columns = rows.float(), columns.float()
    left, right = torch.nonzero(rows @ columns.T >= similarity, as_tuple=True)
    return left.cpu().numpy(), right.cpu().numpy()


def _join_verified(
    vectors: np.ndarray, left: np.ndarray, right: np.ndarray, similarity: float, components: Components
) -> None:
    """Join the pairs that are similar in double precision, which is the same on every device."""
    for start in range(0, len(left), PAIRS_AT_ONCE):
        a, b = left[start : start + PAIRS_AT_ONCE], right[start : start + PAIRS_AT_ONCE]
        apart = ~components.together(a, b)
        a, b = a[apart], b[apart]
        similar = _cosines(vectors, a, b) >= similarity
        components.join(a[similar], b[similar])


def _cosines(vectors: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64 [pairs], whatever the length of the vectors after rounding; 1 exactly where they are equal."""
    cosines = np.empty(len(left))
    for start in range(0, len(left), PAIRS_AT_ONCE):
        a = vectors[left[start : start + PAIRS_AT_ONCE]].astype(np.float64)
        b = vectors[right[start : start + PAIRS_AT_ONCE]].astype(np.float64)
        product = np.einsum("ij,ij->i", a, b)
        lengths = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
        cosines[start : start + PAIRS_AT_ONCE] = np.where((a == b).all(1), 1, product / lengths)
    return cosines


def _candidate_groups(rows: pa.Table, candidates: DuplicateGroups) -> np.ndarray:
    """The perceptual group of each row, -1 for rows in none."""
    table = store.read_table(candidates.digest)
    table = table.filter(pc.equal(table["kind"], "perceptual"))
    place = pc.index_in(rows["id"], table["sample"].combine_chunks())
    return pc.fill_null(table["group"].combine_chunks().take(place.combine_chunks()), -1).to_numpy()


def _pairs_within(group: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of positions with the same number that is not negative, some at a time."""
    order = np.argsort(group, kind="stable")
    order = order[group[order] >= 0]
    ordered, shift = group[order], 1
    left = np.arange(len(order))
    while len(left := left[left + shift < len(order)]):
        left = left[ordered[left] == ordered[left + shift]]
        yield order[left], order[left + shift]
        shift += 1
