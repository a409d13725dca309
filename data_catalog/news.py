"""What has come to a source since it was last looked at, found by listing alone: no file is opened."""

from pydantic import Field

from data_catalog import settling, store
from data_catalog.inspection import unseen
from data_catalog.inspection_memory import Memory
from data_catalog.refs import Spec
from data_catalog.sources.base import Listing, Source


class News(Spec):
    """One source now, against the last look at it."""

    source: str
    digest: str  # of everything that is there: equal as long as nothing comes, changes or goes
    is_changed: bool  # whether it is not what the last look saw
    files: int = Field(ge=0)  # that no look has seen as they are now
    bounds_samples: bool  # whether no more samples can have come than files
    settling: int = Field(ge=0)  # files that are not there yet
    why: str  # they are not


def news_of(source: Source) -> News:
    """What there is to see; raises ValueError where a place cannot be listed, or lost everything it held."""
    listings, waiting = source.arrived()
    seen = [(listing, *unseen(source, listing)) for listing in listings]
    return News(
        source=source.name,
        digest=store.digest_of("\n".join(sorted(fingerprint for _, fingerprint, _ in seen)).encode()),
        is_changed=any(_is_changed(source, listing, fingerprint) for listing, fingerprint, _ in seen),
        files=sum(len(files) for *_, files in seen),
        bounds_samples=source.FILE_IS_SAMPLE,
        settling=len(waiting),
        why=settling.reasons(waiting.values()),
    )


def _is_changed(source: Source, listing: Listing, fingerprint: str) -> bool:
    return Memory.of(source.name, listing.dataset).last_fingerprint() != fingerprint
