"""Samples that later plans leave out of training, or mark: what duplicates, leaks and removal requests come down to."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import store
from data_catalog.refs import Ref

EXCLUDED = pa.schema([("sample", pa.string()), ("reason", pa.string())])  # each sample once, sorted


class Exclusions(Ref):
    """Samples by id with the reason of each; the digest names a table (schema EXCLUDED)."""

    effect: Literal["drop", "mark"]  # `drop`: never trained on; `mark`: trained on, and said so in the plan
    cause: str  # what they have in common, e.g. "near duplicates of evaluation images"
    samples: int


def exclude(samples: dict[str, str], effect: Literal["drop", "mark"], cause: str, **origin) -> Exclusions:
    """Store sample id -> reason; equal content gives an equal reference."""
    rows = sorted(samples.items())
    table = pa.table([pa.array([row[i] for row in rows], pa.string()) for i in (0, 1)], schema=EXCLUDED)
    digest = store.write_table(table, stage="exclude", **origin)
    return Exclusions(digest=digest, effect=effect, cause=cause, samples=len(rows))


def dropped(ids: pa.ChunkedArray, exclusions: Iterable[Exclusions]) -> np.ndarray:
    """Which samples [n] some of `exclusions` drop; what they only mark stays."""
    found = np.zeros(len(ids), bool)
    for some in exclusions:
        if some.effect == "drop":
            found |= pc.is_in(ids, store.read_table(some.digest)["sample"].combine_chunks()).to_numpy()
    return found
