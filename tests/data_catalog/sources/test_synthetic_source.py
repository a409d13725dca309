"""The synthetic source offers its drawings as any other source does."""

from pydantic import TypeAdapter

from data_catalog.shards import ingest
from data_catalog.sources import AnySource


def test_it_draws_once_and_is_ingested_from_the_home():
    fields = {"kind": "synthetic", "pretraining_images": 2, "adaptation_images": 2, "test_images": 1}
    source = TypeAdapter(AnySource).validate_python(fields)
    raws = source.scan()
    assert source.scan() == raws and {raw.source for raw in raws} == {source.name}
    assert ingest(source, raws[0]).samples == {"train": 2, "test": 1}
