"""From raw sources to datasets in the store and rows in the catalog."""

from data_catalog import catalog, inspection_memory, shards
from data_catalog.captions import CaptionRef
from data_catalog.shards import DatasetRef
from data_catalog.sources import AnySource
from data_catalog.sources.base import RawDataset
from tasks.caching import cached, uncached
from tasks.progress import progress_by_label


@uncached(label="scan {source.name}")
def scan_source(source: AnySource, retry: bool = False) -> list[RawDataset]:
    """The datasets a source holds now, by content; `retry`: look again at what was refused, not only at what changed.

    Where the source lies is noted here, since moved data is not ingested again.
    """
    if retry:
        inspection_memory.forget_refusals(source.name)
    with progress_by_label() as progress:
        return source.scan(progress)


@cached(revision=2, label="ingest {raw.dataset}", ignore=("source",))
def ingest_dataset(raw: RawDataset, source: AnySource) -> DatasetRef:
    """The reference to one dataset as it was found."""
    return shards.ingest(source, raw)


@uncached(label="record in the catalog")
def record_in_catalog(datasets: list[DatasetRef], captions: list[CaptionRef]) -> bool:
    """Enter datasets and captions in the catalog; False if it knew them all and nothing was written."""
    return catalog.record_ingest(datasets, captions)
