"""What a stream would look like, from its file and the registry alone: no image, caption or catalog is needed."""

from pathlib import Path

from data_catalog import registry
from data_catalog.cutting import Cut, cut_stream
from data_catalog.mixture import Mixture, split_batch
from data_catalog.orderings.base import Concept
from data_catalog.orderings.from_file import read_stream


def outline(
    stream_file: str | Path, steps: int | None, batch_size: int, mixture: Mixture, cut: Cut = "equal"
) -> list[dict]:
    """Concepts, datasets and batch of each step, from a stream file and the registry alone.

    Datasets that a `datasets.json` beside the stream file describes are known too.
    """
    listing = Path(stream_file).with_name("datasets.json")
    beside = registry.described_in(listing) if listing.is_file() else ()
    known = registry.by_name([*registry.benchmark(), *beside])
    stream = [_resolved(entry, known, stream_file) for entry in read_stream(Path(stream_file))]
    if len(set(stream)) < len(stream):
        raise ValueError(
            f"{stream_file} names a concept twice under two names of its dataset; every concept arrives once"
        )
    years = {entry.info_prefix: entry.year for entry in known.values() if entry.year is not None}
    return [
        {
            "step": step,
            "concepts": len(chunk),
            "datasets": sorted({concept.dataset for concept in chunk}),
            "batch": split_batch(batch_size, mixture, step),
        }
        for step, chunk in enumerate(cut_stream(stream, cut, steps, years))
    ]


def _resolved(entry: Concept, known: dict[str, registry.DatasetEntry], stream_file: str | Path) -> Concept:
    if entry.dataset not in known:
        raise ValueError(
            f"{stream_file} names dataset {entry.dataset!r}, which nobody knows; "
            f"{registry.close_to(entry.dataset, known)}"
        )
    return Concept(known[entry.dataset].info_prefix, entry.name)
