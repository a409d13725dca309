"""The order of a published stream file (FoMo-in-Flux, arXiv 2408.14471; reference section 3.1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from data_catalog import places, store
from data_catalog.json_files import read_json
from data_catalog.orderings.base import Background, Concept, Ordering
from data_catalog.orderings.listed import listed_concepts, require_unique
from data_catalog.seeds import rng as generator


class FromFile(Ordering):
    """The concepts a JSON list of `NAME+++concept` names, in its order, or shuffled by a seed of their own."""

    PLACES = frozenset({"path"})

    kind: Literal["from_file"] = "from_file"
    path: str  # .json or .json.gz; also `<source>/<relative path>`
    shuffle_seed: int | None = None  # of a shuffle of the file's order; null: as it is

    def arrange(self, concepts: Sequence[Concept], rng: np.random.Generator, background: Background) -> list[Concept]:
        named = listed_concepts(self.path, read_stream(Path(self.path)), concepts)
        if self.shuffle_seed is None:
            return named
        return [named[i] for i in generator(self.shuffle_seed, "ordering").permutation(len(named))]

    def located(self) -> "FromFile":
        return self.model_copy(update={"path": places.located(self.path)})

    def content(self) -> str:
        if not Path(self.path).is_file():
            raise ValueError(
                f"there is no stream file {self.path}; expected a JSON list of 'NAME+++concept', also gzipped"
            )
        return store.digest_of(Path(self.path).read_bytes())


def read_stream(path: Path) -> list[Concept]:
    """The entries of a stream file with the dataset names written there; raises ValueError for bad or repeated ones."""
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} is not a stream: expected a JSON list of strings 'NAME+++concept', at least one")
    stream = [_parsed(path, position, entry) for position, entry in enumerate(entries)]
    require_unique(str(path), stream)
    return stream


def _parsed(path: Path, position: int, entry: object) -> Concept:
    dataset, separator, name = entry.partition("+++") if isinstance(entry, str) else ("", "", "")
    if not (dataset and separator and name):
        raise ValueError(f"entry {position} of {path} is {entry!r:.80}, expected 'NAME+++concept'")
    return Concept(dataset, name)
