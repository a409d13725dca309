"""Rare concepts first (FoMo-in-Flux, arXiv 2408.14471, frequency order; reference section 3.2).

The paper counts class names in C4 through a text-search index; here the counts come from a corpus or table of yours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import model_validator

from data_catalog import places, store
from data_catalog.orderings.base import Background, Concept, Ordering
from data_catalog.phrase_counts import count_in_corpus, counts_in_table, words_of


class Frequency(Ordering):
    """Ascending count of the concept's name in a corpus or an n-gram table, case ignored; equal counts by name.

    Names that several datasets share have one count and stand together. Names the table lacks have the count 0, or are
    an error; what else it holds is ignored.
    """

    PLACES = frozenset({"corpus", "table"})

    kind: Literal["frequency"] = "frequency"
    corpus: str | None = None  # .txt, or .jsonl with a field `text`; also gzipped; one document per line
    table: str | None = None  # .csv, .parquet or .json with name and count
    missing: Literal["zero", "error"] = "zero"  # a name that the table lacks

    @model_validator(mode="after")
    def _counts_one_thing(self) -> "Frequency":
        if (self.corpus is None) == (self.table is None):
            raise ValueError(f"give either `corpus` or `table`, found corpus={self.corpus!r} table={self.table!r}")
        return self

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        words = {concept: words_of(concept.name) for concept in concepts}
        counts = self._counts(set(words.values()))
        if self.missing == "error" and (unknown := sorted(c for c in concepts if words[c] not in counts)):
            raise ValueError(
                f"{self.table} has no count of {len(unknown)} concepts, first {unknown[0].name!r} of "
                f"{unknown[0].dataset}; add them, or take them as 0 with `missing: zero`"
            )
        return sorted(concepts, key=lambda concept: (counts.get(words[concept], 0), words[concept], concept))

    def _counts(self, phrases: set[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
        return count_in_corpus(Path(self.corpus), phrases) if self.corpus else counts_in_table(Path(self.table))

    def located(self) -> "Frequency":
        found = {name: places.located(getattr(self, name)) for name in ("corpus", "table") if getattr(self, name)}
        return self.model_copy(update=found)

    def content(self) -> str:
        path = Path(self.corpus or self.table)
        if not path.is_file():
            raise ValueError(f"there is no file {path} to count names in; expected a corpus or a table of counts")
        return store.digest_of_file(path)
