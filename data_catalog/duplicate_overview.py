"""Groups of duplicates as a few rows that a person reads."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import store
from data_catalog.duplicates import DuplicateGroups


def overview(groups: DuplicateGroups) -> list[dict[str, str | int | float]]:
    """One row per kind: how much was found, how much could be compared, and whether groups are chains.

    Tight groups are small and no wider than the threshold of their search; a large, wide one is a chain of pictures
    that merely resemble each other, and asks for a stricter threshold or the policy's `largest_group`.
    """
    table, rows = store.read_table(groups.digest), []
    for kind, count in groups.groups.items():
        some = table.filter(pc.equal(table["kind"], kind))
        places = _places(some)
        datasets = some.group_by("group").aggregate([("dataset", "count_distinct")])["dataset_count_distinct"]
        splits = some.group_by("group").aggregate([("split", "count_distinct")])["split_count_distinct"]
        rows.append(
            {
                "kind": kind,
                "groups": count,
                "samples": len(some),
                "across_datasets": _count(pc.greater(datasets, 1)),
                "across_splits": _count(pc.greater(splits, 1)),
                "largest": pc.max(places["sizes"]).as_py() if count else 0,
                "widest": round(pc.max(some["distance"]).as_py(), 4) if count else 0.0,
                "compared": groups.compared[kind],
                "not_compared": groups.not_compared[kind] + (groups.flat if kind == "perceptual" else 0),
            }
        )
    return rows


def overlaps(groups: DuplicateGroups) -> list[dict[str, str | int]]:
    """How many groups join each pair of <DATASET>/<split>, within one where both are the same."""
    table = store.read_table(groups.digest)
    place = pc.binary_join_element_wise(table["dataset"], table["split"], "/")
    counted = pa.table({"kind": table["kind"], "group": table["group"], "place": place})
    counted = counted.group_by(["kind", "group", "place"]).aggregate([([], "count_all")])
    within = counted.filter(pc.greater(counted["count_all"], 1)).select(["kind", "place"])
    across = counted.join(counted.rename_columns(["kind", "group", "other", "n"]), ["kind", "group"], join_type="inner")
    across = across.filter(pc.less(across["place"], across["other"])).select(["kind", "place", "other"])
    pairs = pa.concat_tables([within.append_column("other", within["place"]), across])
    found = pairs.group_by(["kind", "place", "other"]).aggregate([([], "count_all")])
    found = found.rename_columns(["kind", "one", "other", "groups"])
    return found.sort_by([("kind", "ascending"), ("one", "ascending"), ("other", "ascending")]).to_pylist()


def examples(groups: DuplicateGroups, limit: int = 10, members: int = 4) -> list[dict[str, str | int | float]]:
    """The first `limit` groups of each kind, those across places first: their size and some of their samples."""
    rows = []
    table = store.read_table(groups.digest)
    for kind in groups.groups:
        some = table.filter(pc.equal(table["kind"], kind))
        mixed = _places(some).sort_by([("places", "descending"), ("group", "ascending")]).slice(0, limit)
        for group in mixed["group"].to_pylist():
            own = some.filter(pc.equal(some["group"], group))
            shown = own["sample"].slice(0, members).to_pylist()
            more = f" and {len(own) - members} more" if len(own) > members else ""
            widest = round(pc.max(own["distance"]).as_py(), 4)
            rows.append({"kind": kind, "size": len(own), "widest": widest, "samples": ", ".join(shown) + more})
    return rows


def _places(table: pa.Table) -> pa.Table:
    """group, size and number of different dataset/split of every group."""
    place = pc.binary_join_element_wise(table["dataset"], table["split"], "/")
    counted = pa.table({"group": table["group"], "place": place}).group_by("group")
    counted = counted.aggregate([("place", "count"), ("place", "count_distinct")])
    return counted.rename_columns(["group", "sizes", "places"])


def _count(claims: pa.ChunkedArray) -> int:
    return int(np.sum(claims.to_numpy()))
