"""Which samples show the same picture: equal bytes, or perceptual hashes that differ in a few bits."""

from collections.abc import Callable, Mapping, Sequence
from itertools import compress
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import store
from data_catalog.hamming import close_components
from data_catalog.refs import Ref, Spec
from data_catalog.shards import DatasetRef

Kind = Literal["exact", "perceptual", "embedding"]

# One row per (kind, sample), sorted by group and sample: a sample is in at most one group of each kind. A group has at
# least two members, is of one kind, and its number counts within this table alone.
DUPLICATES = pa.schema(
    [
        ("sample", pa.string()),
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("group", pa.int64()),
        ("kind", pa.string()),  # exact: equal bytes; perceptual: close hashes; embedding: similar vectors
        # To the first member of the group, 0 for itself: bits that differ (0 where exact), or 1 - cosine (embedding).
        # A group is a chain: its members can be further from the first one than the threshold of each link.
        ("distance", pa.float32()),
    ]
)
MEMBER = ["id", "dataset", "split"]
UNREAD, FLAT = -1, -2  # labels of samples that are compared with nothing
LEAST_SET_BITS = 16  # of a perceptual hash: a picture with structure has 32, a plain area 0 or 1


class DuplicateSearch(Spec):
    """What counts as the same picture, and where it is looked for."""

    kinds: tuple[Kind, ...] = Field(("exact", "perceptual"), min_length=1)  # what makes them the same
    perceptual_distance: int = Field(4, ge=0, le=12)  # of 64 bits; 4: stored again, resized; 8: also trimmed, brighter
    similarity: float = Field(0.95, gt=0, le=1)  # cosine of two embeddings from which on they are duplicates
    checkpoint: str = "pretrained"  # that embeds the images, if `kinds` names embedding; as `evaluate` names it
    datasets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None  # null: all


class DuplicateGroups(Ref):
    """Groups of samples that show the same picture; the digest names a table (schema DUPLICATES)."""

    datasets: dict[str, str]  # name -> digest of the sample table that was searched
    groups: dict[str, int]  # kind -> groups of at least two
    samples: dict[str, int]  # kind -> samples in them
    compared: dict[str, int]  # kind -> samples that could be compared
    not_compared: dict[str, int]  # kind -> samples that were not: indexed unread, so without a hash, or no candidates
    flat: int = 0  # samples whose perceptual hash says nothing, a plain area or one gradient: compared exactly alone


def find_duplicates(
    datasets: Sequence[DatasetRef],
    search: DuplicateSearch,
    progress: Callable[[str, int, int], None] | None = None,
) -> DuplicateGroups:
    """Exact and perceptual groups within and across the splits of `datasets`, in whatever order they are given.

    Raises ValueError if `search` names a dataset that is not there.
    """
    looked_at = is_searched(search, [dataset.name for dataset in datasets])
    chosen = sorted(compress(datasets, looked_at), key=lambda dataset: dataset.name)
    rows = pa.concat_tables([store.read_table(d.digest, MEMBER).replace_schema_metadata(None) for d in chosen])
    found: dict[str, tuple[np.ndarray, pa.Table]] = {}
    if "exact" in search.kinds:
        labels = _equal(_column(chosen, "hash"))
        found["exact"] = labels, group_table("exact", rows, labels, lambda first, member: np.zeros(len(member)))
    if "perceptual" in search.kinds:
        phash = _column(chosen, "phash")
        labels = _close(phash, search.perceptual_distance, progress)
        found["perceptual"] = labels, group_table("perceptual", rows, labels, _bits_apart(phash))
    tables = {dataset.name: dataset.digest for dataset in chosen}
    return store_groups(tables, found, stage="find_duplicates", search=search)


def is_searched(search: DuplicateSearch, names: Sequence[str]) -> list[bool]:
    """Whether `search` looks at each of the datasets `names`; raises ValueError that tells what it names in vain."""
    if unknown := sorted(set(search.datasets or ()) - set(names)):
        raise ValueError(f"`datasets` names {', '.join(unknown)}, which no source holds; found: {sorted(names)}")
    return [search.datasets is None or name in search.datasets for name in names]


def group_table(
    kind: Kind, rows: pa.Table, labels: np.ndarray, distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> pa.Table:
    """The rows that share a label with another one, as schema DUPLICATES; the first member has the smallest id.

    `rows`: columns MEMBER; `labels`: [rows], negative where a row was compared with nothing; `distance`: from rows
    `first` to rows `member`, both given by position.
    """
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    inside = np.flatnonzero((labels >= 0) & (sizes[np.maximum(labels, 0)] > 1))
    members = rows.take(pa.array(inside))
    by_id = pc.sort_indices(members["id"]).to_numpy()
    _, first, place = np.unique(labels[inside][by_id], return_index=True, return_inverse=True)
    group = np.argsort(np.argsort(first))[place]  # numbered in the order of their first members
    order = np.argsort(group, kind="stable")
    members, position, group = members.take(pa.array(by_id[order])), inside[by_id[order]], group[order]
    start = np.flatnonzero(np.diff(group, prepend=-1))  # where each group begins
    columns = [*(members[name].combine_chunks() for name in MEMBER), pa.array(group)]
    columns += [
        pa.repeat(kind, len(group)),
        pa.array(np.asarray(distance(position[start][group], position)).astype(np.float32)),
    ]
    return pa.table(columns, schema=DUPLICATES)


def store_groups(
    datasets: Mapping[str, str], found: Mapping[str, tuple[np.ndarray, pa.Table]], **origin
) -> DuplicateGroups:
    """Store the groups of each kind as one table; `found`: kind -> labels of all rows, table of its groups."""
    tables, groups = [], {}
    for kind, (_, table) in sorted(found.items()):
        groups[kind] = (pc.max(table["group"]).as_py() + 1) if len(table) else 0
        before = sum(groups.values()) - groups[kind]
        tables.append(table.set_column(3, "group", pc.add(table["group"], before)))
    labels = {kind: labels for kind, (labels, _) in sorted(found.items())}
    table = pa.concat_tables([DUPLICATES.empty_table(), *tables]).combine_chunks()
    return DuplicateGroups(
        digest=store.write_table(table, datasets=dict(datasets), **origin),
        datasets=dict(datasets),
        groups=groups,
        samples={kind: found[kind][1].num_rows for kind in labels},
        compared={kind: int((some >= 0).sum()) for kind, some in labels.items()},
        not_compared={kind: int((some == UNREAD).sum()) for kind, some in labels.items()},
        flat=sum(int((some == FLAT).sum()) for some in labels.values()),
    )


def _column(datasets: Sequence[DatasetRef], name: str) -> pa.Array:
    columns = [store.read_table(dataset.digest, [name])[name] for dataset in datasets]
    return pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type).combine_chunks()


def _equal(hashes: pa.Array) -> np.ndarray:
    return pc.fill_null(hashes.dictionary_encode().indices, UNREAD).to_numpy().astype(np.int64)


def _close(phash: pa.Array, distance: int, progress: Callable[[str, int, int], None] | None) -> np.ndarray:
    labels = np.full(len(phash), UNREAD, np.int64)
    known = pc.is_valid(phash).to_numpy(zero_copy_only=False)
    bits = pc.fill_null(phash, 0).to_numpy()
    is_flat = known & (np.bitwise_count(bits) < LEAST_SET_BITS)
    labels[is_flat] = FLAT
    compared = known & ~is_flat
    report = progress and (lambda done, total: progress("compare perceptual hashes", done, total))
    labels[compared] = close_components(bits[compared], distance, report)
    return labels


def _bits_apart(phash: pa.Array) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    bits = pc.fill_null(phash, 0).to_numpy()
    return lambda first, member: np.bitwise_count(bits[first] ^ bits[member])
