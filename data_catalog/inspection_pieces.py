"""The images of a source that are new, in pieces that several processes read and check beside each other.

A piece is some rows of a dataset as its metadata tells them. What is found goes through the store into the memory of
whoever looks at the whole afterwards, and who then has nothing left to read.
"""

import numpy as np
from pydantic import Field

from data_catalog import inspection_images, store
from data_catalog.inspection import Inspector, last_at, listing_of
from data_catalog.inspection_memory import Memory
from data_catalog.refs import DIGEST, Ref, Spec
from data_catalog.sources.base import Progress, Source


class RowsToInspect(Spec):
    """Rows `start` to before `stop` of a dataset, of which those are read that no look has seen."""

    dataset: str
    fingerprint: str = Field(pattern=f"^{DIGEST}$")  # of what lay there
    start: int = Field(ge=0)
    stop: int = Field(ge=1)


class InspectedRows(Ref):
    """What was found of sound images; the digest names a table with the schema OUTCOMES."""

    dataset: str


def cut(source: Source, size: int) -> list[RowsToInspect]:
    """All images that must be read, about `size` in a piece and of one dataset each; none if one piece has them all."""
    inspector, found = Inspector(source), []
    for listing in source.listings() if source.check == "decode" else ():
        fingerprint = inspector.fingerprint(listing)
        if last_at(Memory.of(source.name, listing.dataset), fingerprint) is None:
            rows, _, unread = inspector.unread(listing)
            found.append((listing.dataset, fingerprint, rows.num_rows, unread))
    if sum(len(unread) for *_, unread in found) <= size:
        return []
    return [
        RowsToInspect(dataset=dataset, fingerprint=fingerprint, start=start, stop=stop)
        for dataset, fingerprint, count, unread in found
        for start, stop in _bounds(unread, size, count)
    ]


def inspect(source: Source, piece: RowsToInspect, progress: Progress | None = None) -> InspectedRows:
    """Read and check the images of a piece; raises ValueError if other data lies there by now."""
    inspector = Inspector(source)
    listing = listing_of(source, piece.dataset)
    if listing is None or inspector.fingerprint(listing) != piece.fingerprint:
        raise ValueError(f"{piece.dataset} in {source.root()} changed while it was looked at; run it again")
    rows, blank, unread = inspector.unread(listing)
    ours = unread[(unread >= piece.start) & (unread < piece.stop)]
    memory = Memory.of(source.name, piece.dataset)
    outcomes = inspection_images.inspect(
        rows.take(ours), blank.take(ours), source, inspector.known_bytes, memory, _from(piece.start, progress)
    )
    sound = outcomes.filter(outcomes["code"].is_null())  # what is refused may be asked for again, this is kept
    found = store.write_table(sound, stage="inspect_rows", source=source.name)
    return InspectedRows(digest=found, dataset=piece.dataset)


def remember(source: Source, inspected: list[InspectedRows]) -> None:
    """Let the next look at the source know what others found."""
    for some in inspected:
        Memory.of(source.name, some.dataset).add(store.read_table(some.digest))


def _bounds(unread: np.ndarray, size: int, count: int) -> list[tuple[int, int]]:
    """Where pieces with about `size` of the `unread` rows begin and end, none where nothing is unread."""
    starts = [0, *unread[size::size].tolist()]
    return [*zip(starts, [*starts[1:], count], strict=True)] if len(unread) else []


def _from(start: int, progress: Progress | None) -> Progress | None:
    """Progress of a piece, under a name of its own."""
    return progress and (lambda label, done, total: progress(f"{label} from {start:,}", done, total))
