"""Images to put anywhere, and the whole way from a source to samples and back to their bytes."""

import io
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from data_catalog.reading import read_samples
from data_catalog.shards import DatasetFacts


class Ingested(NamedTuple):
    """What came of a source: samples and refusals by id, facts, and the bytes that its samples lead to."""

    samples: dict[str, dict]
    refused: dict[str, dict]
    facts: DatasetFacts
    blobs: dict[str, bytes]


@pytest.fixture
def picture():
    """Distinct images by number."""

    def draw(number, format="JPEG"):
        noise = np.random.default_rng(number).integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer := io.BytesIO(), format=format)
        return buffer.getvalue()

    return draw


@pytest.fixture
def ingested():
    """Scan and read a source of one dataset."""

    def ingest(source):
        (raw,) = source.scan()
        table, refused = source.read(raw)
        rows = table.select(["shard", "offset", "length", "hash"])
        facts = DatasetFacts.model_validate_json(table.schema.metadata[b"evergreen"])
        by_id = {row["id"]: row for row in table.to_pylist()}
        assert len(by_id) == table.num_rows
        blobs = dict(zip(table["id"].to_pylist(), read_samples(pa.table(rows)), strict=True))
        return Ingested(by_id, {row["id"]: row for row in refused.to_pylist()}, facts, blobs)

    return ingest
