"""Where each distinct image occurs in a number of image tables, so that it is decoded and embedded once for all."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PLACE = pa.schema([("shard", pa.string()), ("offset", pa.int64()), ("length", pa.int64()), ("hash", pa.binary())])


class Occurrence(NamedTuple):
    """Rows of one table whose images lie in a span of the distinct ones."""

    table: int
    image: np.ndarray  # int64: position of the image within the span
    row: np.ndarray  # int64: row of the table it stands in


class Occurrences:
    """The distinct images of some tables, in the order in which they first occur, and all their places.

    `images`: columns shard, offset, length, hash. Images of one hash are one image; where it is unknown, those of one
    place.
    """

    def __init__(self, tables: Sequence[pa.Table]):
        rows = pa.concat_tables([table.select(_PLACE.names).cast(_PLACE) for table in tables]).combine_chunks()
        image = _key(rows).dictionary_encode().combine_chunks().indices.to_numpy().astype(np.int64)
        _, first = np.unique(image, return_index=True)
        self.images = rows.take(pa.array(first))
        lengths = [table.num_rows for table in tables]
        self._order = np.argsort(image, kind="stable")
        self._image = image[self._order]
        self._table = np.repeat(np.arange(len(tables)), lengths)[self._order]
        self._row = np.concatenate([np.arange(length) for length in lengths])[self._order]

    def within(self, start: int, stop: int) -> Iterator[Occurrence]:
        """Where the images from `start` to `stop` occur, table by table."""
        span = slice(*np.searchsorted(self._image, [start, stop]))
        tables = self._table[span]
        for table in np.unique(tables):
            here = tables == table
            yield Occurrence(int(table), self._image[span][here] - start, self._row[span][here])


def _key(rows: pa.Table) -> pa.ChunkedArray:
    place = pc.binary_join_element_wise(rows["shard"], rows["offset"].cast(pa.string()), "\n").cast(pa.binary())
    return pc.coalesce(rows["hash"], place)
