"""From raw sources to datasets in the store and rows in the catalog."""

from data_catalog import catalog, places, shards
from data_catalog.captions import CaptionRef
from data_catalog.shards import DatasetRef
from data_catalog.sources import AnySource
from data_catalog.sources.base import RawDataset
from tasks.caching import cached, uncached


@uncached(label="scan {source.name}")
def scan_source(source: AnySource) -> list[RawDataset]:
    """The datasets a source holds now, by content; where it lies is noted, since moved data is not ingested again."""
    found = source.scan()
    places.register_source(source.name, source.root())
    return found


@cached(revision=1, label="ingest {raw.dataset}", ignore=("source",))
def ingest_dataset(raw: RawDataset, source: AnySource) -> DatasetRef:
    """Index, check and store one dataset."""
    return shards.ingest(source, raw)


@uncached(label="record in the catalog")
def record_in_catalog(datasets: list[DatasetRef], captions: list[CaptionRef]) -> bool:
    """Enter datasets and captions in the catalog; False if it knew them all and nothing was written."""
    return catalog.record_ingest(datasets, captions)
