"""From raw sources to datasets in the store and rows in the catalog."""

from collections.abc import Sequence

from data_catalog import catalog, inspection_memory, inspection_pieces, shards
from data_catalog.captions import CaptionRef
from data_catalog.inspection_pieces import InspectedRows, RowsToInspect
from data_catalog.shards import DatasetRef
from data_catalog.sources import AnySource
from data_catalog.sources.base import RawDataset
from tasks.caching import cached, uncached
from tasks.progress import progress_by_label


@uncached(label="look for new images in {source.name}")
def cut_new_images(source: AnySource, size: int) -> list[RowsToInspect]:
    """What several workers can read and check of a source, about `size` images at a time."""
    return inspection_pieces.cut(source, size)


@cached(revision=1, label="inspect {rows.dataset} from {rows.start}")
def inspect_images(source: AnySource, rows: RowsToInspect) -> InspectedRows:
    """Read and check some images of a source."""
    with progress_by_label() as progress:
        return inspection_pieces.inspect(source, rows, progress)


@uncached(label="forget refusals of {source.name}")
def forget_refusals(source: AnySource) -> None:
    """Let the next look at a source look at everything again that was refused."""
    inspection_memory.forget_refusals(source.name)


@uncached(label="scan {source.name}")
def scan_source(source: AnySource, inspected: Sequence[InspectedRows] = ()) -> list[RawDataset]:
    """The datasets a source holds now, by content; images are read that nobody has, `inspected` among them.

    Where the source lies is noted here, since moved data is not ingested again.
    """
    inspection_pieces.remember(source, inspected)
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
