"""The order of a published stream file (FoMo-in-Flux, arXiv 2408.14471; reference section 3.1)."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from data_catalog import places, registry, store
from data_catalog.json_files import read_json
from data_catalog.orderings.base import Concept, Ordering
from data_catalog.seeds import rng as generator


class FromFile(Ordering):
    """The concepts a JSON list of `NAME+++concept` names, in its order, or shuffled by a seed of their own."""

    kind: Literal["from_file"] = "from_file"
    path: str  # .json or .json.gz; also `<source>/<relative path>`
    shuffle_seed: int | None = None

    def order(self, concepts: Sequence[Concept], rng: np.random.Generator) -> list[Concept]:
        entries = read_stream(Path(self.path))
        known = _names({concept.dataset for concept in concepts})
        named = [Concept(_dataset(self.path, dataset, known), name) for dataset, name in entries]
        _require_unique(self.path, named)
        _require_known(self.path, named, set(concepts))
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
    _require_unique(str(path), stream)
    return stream


def _parsed(path: Path, position: int, entry: object) -> Concept:
    dataset, separator, name = entry.partition("+++") if isinstance(entry, str) else ("", "", "")
    if not (dataset and separator and name):
        raise ValueError(f"entry {position} of {path} is {entry!r:.80}, expected 'NAME+++concept'")
    return Concept(dataset, name)


def _require_unique(path: str, stream: list[Concept]) -> None:
    if repeated := [concept for concept, count in Counter(stream).items() if count > 1]:
        raise ValueError(
            f"{path} names {len(repeated)} concepts more than once, first {'+++'.join(repeated[0])!r}; "
            "every concept arrives once, remove the repetitions"
        )


def _names(datasets: set[str]) -> dict[str, str]:
    """Dataset by every name it may have in a stream: its own, and the aliases if it is one of the benchmark's."""
    known = registry.by_name(registry.benchmark())
    aliases = {alias: d.info_prefix for alias, d in known.items() if d.info_prefix in datasets}
    return aliases | {name: name for name in datasets}


def _dataset(path: str, name: str, known: dict[str, str]) -> str:
    if name not in known:
        raise ValueError(
            f"{path} names dataset {name!r}, which has no training samples here; {registry.close_to(name, known)}"
        )
    return known[name]


def _require_known(path: str, stream: list[Concept], concepts: set[Concept]) -> None:
    unknown = [concept for concept in stream if concept not in concepts]
    if unknown:
        first = unknown[0]
        names = [concept.name for concept in concepts if concept.dataset == first.dataset]
        raise ValueError(
            f"{path} names {len(unknown)} concepts without a training sample, first {first.name!r} of "
            f"{first.dataset}; {registry.close_to(first.name, names)}"
        )
