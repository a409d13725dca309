"""The order that a query of the catalog returns."""

import json
from collections.abc import Sequence
from typing import Literal

import numpy as np

from data_catalog import store
from data_catalog.orderings.base import Background, Concept, Ordering
from data_catalog.orderings.listed import listed_concepts


class Sql(Ordering):
    """The rows of a SELECT with columns `dataset` and `concept`, in the order it returns them.

    Rows of datasets that are not streamed, such as the pretraining pool, are passed over. What the rows say, not the
    text of the query, decides whether a plan is made anew. Without an ORDER BY over unique keys DuckDB may return them
    differently each time.
    """

    PLACES = frozenset({"query"})

    kind: Literal["sql"] = "sql"
    query: str  # of the catalog

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        streamed = {concept.dataset for concept in concepts}
        rows = [row for row in self._rows() if row.dataset in streamed]
        return listed_concepts("the query of ordering sql", rows, concepts)

    def content(self) -> str:
        return store.digest_of(json.dumps(self._rows()).encode())

    def _rows(self) -> list[Concept]:
        from data_catalog import catalog  # the catalog knows streams, and needs DuckDB, which a training machine lacks

        rows = catalog.query(self.query)
        if not rows or not {"dataset", "concept"} <= set(rows[0]):
            found = f"columns {list(rows[0])}" if rows else "no rows"
            raise ValueError(
                f"the query of ordering sql returns {found}, expected rows with columns dataset and concept; "
                "change `query`, e.g. SELECT DISTINCT dataset, concept FROM samples "
                "WHERE split = 'train' AND concept IS NOT NULL ORDER BY concept, dataset"
            )
        named = [Concept(row["dataset"], row["concept"]) for row in rows]
        if wrong := [entry for entry in named if not all(isinstance(part, str) for part in entry)]:
            raise ValueError(
                f"the query of ordering sql returns {wrong[0]}, expected a dataset and a concept, both text; "
                "leave other rows out with WHERE"
            )
        return named
