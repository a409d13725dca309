"""How far weights went and which way, as rows of tables and as a document for programs."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from models.merging.geometry import Extent, Geometry

Row = dict[str, Any]


def document(geometry: Geometry) -> dict[str, list[Row]]:
    """All that was measured, for programs: cosines of all pairs by tower, of consecutive ones by layer."""
    shared = ("tower", "layer", "values", "origin_norm", "norms")

    def row(extent: Extent, *more: str) -> Row:
        fields = {name: getattr(extent, name) for name in (*shared, *more)}
        return fields | {"drift": extent.drift, "consecutive_cosines": extent.consecutive}

    towers = [row(extent, "cosines") for extent in (geometry.whole, *geometry.towers)]
    return {"towers": towers, "layers": [row(extent) for extent in geometry.layers]}


def tables(geometry: Geometry, names: Sequence[str], columns: int) -> dict[str, list[Row]]:
    """What was measured as rows under titles; more than `columns` checkpoints are shown by their ends and extremes."""
    whole = geometry.whole
    found = {
        "length of task vectors": [
            {"checkpoint": name, "drift": whole.drift[i], **_by_tower(geometry, lambda extent, i=i: extent.norms[i])}
            for i, name in enumerate(names)
        ]
    }
    if len(names) > 1:
        found["cosine of consecutive task vectors"] = [
            {"checkpoints": f"{before}, {after}", **_by_tower(geometry, lambda extent, i=i: extent.consecutive[i])}
            for i, (before, after) in enumerate(pairwise(names))
        ]
    if 2 < len(names) <= columns:
        rows = zip(names, whole.cosines, strict=True)
        found["cosine of every pair"] = [{"": name, **dict(zip(names, row, strict=True))} for name, row in rows]
    title = "drift by layer" + ("" if len(names) <= columns else f", of {len(names)} checkpoints (all: --json)")
    found[title] = [
        {"tower": extent.tower, "layer": _layer(extent), "values": extent.values, **_drifts(extent, names, columns)}
        for extent in geometry.layers
    ]
    return found


def _by_tower(geometry: Geometry, value: Callable[[Extent], float | None]) -> Row:
    """A value of the whole model and of its towers; scale and bias of the loss have no direction to speak of."""
    return {extent.tower: value(extent) for extent in (geometry.whole, *geometry.towers) if extent.tower != "shared"}


def _layer(extent: Extent) -> str:
    return "scale and bias" if extent.tower == "shared" else extent.layer


def _drifts(extent: Extent, names: Sequence[str], columns: int) -> dict[str, float | None]:
    if len(names) <= columns:
        return dict(zip(names, extent.drift, strict=True))
    known = [drift for drift in extent.drift if drift is not None]
    ends = {"first": extent.drift[0], "last": extent.drift[-1]}
    return ends | {"least": min(known, default=None), "greatest": max(known, default=None)}


def as_text(value: str | int | float | None) -> str:
    """A value of a table: numbers with four digits that count, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:#.4g}" if isinstance(value, float) else value
