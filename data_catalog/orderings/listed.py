"""Orders that name their concepts one by one: what is unknown or repeated among the names is said with its origin."""

from collections import Counter
from collections.abc import Sequence

from data_catalog import registry
from data_catalog.orderings.base import Concept


def listed_concepts(origin: str, entries: Sequence[Concept], concepts: Sequence[Concept]) -> list[Concept]:
    """The concepts that `entries` name by any name of their dataset; each must be among `concepts`, and named once."""
    known = _names({concept.dataset for concept in concepts})
    listed = [Concept(_dataset(origin, dataset, known), name) for dataset, name in entries]
    require_unique(origin, listed)
    _require_known(origin, listed, set(concepts))
    return listed


def require_unique(origin: str, stream: Sequence[Concept]) -> None:
    """Raise ValueError if a concept is named twice."""
    if repeated := [concept for concept, count in Counter(stream).items() if count > 1]:
        raise ValueError(
            f"{origin} names {len(repeated)} concepts more than once, first {'+++'.join(repeated[0])!r}; "
            "every concept arrives once, remove the repetitions"
        )


def listed_datasets(origin: str, names: Sequence[str], datasets: set[str]) -> list[str]:
    """The datasets that `names` name by any of their names; each must be among `datasets`, and named once."""
    known = _names(datasets)
    listed = [_dataset(origin, name, known) for name in names]
    if repeated := [name for name, count in Counter(listed).items() if count > 1]:
        raise ValueError(f"{origin} names dataset {repeated[0]} more than once; name each once")
    return listed


def _names(datasets: set[str]) -> dict[str, str]:
    """Dataset by every name it may have in a stream: its own, and the aliases if it is one of the benchmark's."""
    known = registry.by_name(registry.benchmark())
    aliases = {alias: d.info_prefix for alias, d in known.items() if d.info_prefix in datasets}
    return aliases | {name: name for name in datasets}


def _dataset(origin: str, name: str, known: dict[str, str]) -> str:
    if name not in known:
        raise ValueError(
            f"{origin} names dataset {name!r}, which has no training samples here; {registry.close_to(name, known)}"
        )
    return known[name]


def _require_known(origin: str, stream: Sequence[Concept], concepts: set[Concept]) -> None:
    unknown = [concept for concept in stream if concept not in concepts]
    if unknown:
        first = unknown[0]
        names = [concept.name for concept in concepts if concept.dataset == first.dataset]
        raise ValueError(
            f"{origin} names {len(unknown)} concepts without a training sample, first {first.name!r} of "
            f"{first.dataset}; {registry.close_to(first.name, names)}"
        )
