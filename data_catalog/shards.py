"""Where image bytes lie, and the reference to one ingested dataset."""

import json
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog import metadata, store
from data_catalog.refs import Ref, Spec

if TYPE_CHECKING:
    from data_catalog.sources.base import RawDataset, Source  # sources import this module

TEXTS = pa.list_(pa.string())
SAMPLES = pa.schema(
    [
        ("id", pa.string()),  # <DATASET>/<split>/<key>
        ("dataset", pa.string()),
        ("split", pa.string()),
        ("key", pa.string()),
        ("concept", pa.string()),  # class name; null in retrieval sets without classes
        ("target", pa.int32()),
        ("shard", pa.string()),  # <source>/<path relative to the root of the source>
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("hash", pa.binary(32)),  # SHA-256 of the image bytes; null where the source was indexed without reading them
        ("phash", pa.uint64()),  # perceptual hash of the pixels; null as above
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("attributes", pa.string()),  # whatever else the source says of the sample, as a JSON object; mostly null
        *((caption, TEXTS) for caption in metadata.CAPTIONS),
    ]
)
QUARANTINE = pa.schema([("id", pa.string()), ("shard", pa.string()), ("code", pa.string()), ("reason", pa.string())])


class DatasetRef(Ref):
    """One ingested dataset; the digest names its sample table (schema SAMPLES) with its facts in the metadata."""

    name: str
    samples: dict[str, int]  # split -> accepted samples
    kind: Literal["classification", "retrieval"]
    quarantine: str | None = None  # digest of the table of what was refused (schema in QUARANTINE), None if nothing was


class DatasetFacts(Spec):
    """What is true of a dataset as a whole; `classnames` in target order, empty for retrieval sets without classes."""

    name: str
    kind: Literal["classification", "retrieval"]
    prompt_template: str | None  # None if the dataset has no classes to prompt for
    classnames: tuple[str, ...]
    class_name_transform: Literal["none", "underscores_to_spaces"] = "none"
    year: int | None = None  # of publication, as far as known
    templates: tuple[str, ...] = ()  # several sentences that its source lists, for an ensemble of prompts

    def prompt(self, classname: str, template: str | None = None) -> str:
        """`template`, by default its own one, filled with a class name; raises ValueError if there is none."""
        if (chosen := template or self.prompt_template) is None:
            raise ValueError(
                f"{self.name} has no prompt template: give it one in datasets.json, or do not prompt for its classes"
            )
        return metadata.fill(chosen, classname, self.class_name_transform)


def facts(dataset: DatasetRef) -> DatasetFacts:
    """The facts stored with the sample table of `dataset`."""
    return _facts_in(dataset.digest)


def _facts_in(digest: str) -> DatasetFacts:
    return DatasetFacts(**json.loads(pq.read_schema(store.locate(digest)).metadata[b"evergreen"]))


def with_facts(table: pa.Table, known: DatasetFacts) -> pa.Table:
    """The sample table with its facts in the schema metadata, as sorted JSON so that equal facts are equal bytes."""
    told = known.model_dump(mode="json", exclude=None if known.templates else {"templates"})
    return table.replace_schema_metadata({"evergreen": json.dumps(told, sort_keys=True)})


def ingest(source: "Source", raw: "RawDataset") -> DatasetRef:
    """The reference to one scanned dataset, also if nothing of it is usable: what was refused can be looked into."""
    look = source.tables(raw)
    splits = store.read_table(look.samples, columns=["split"])
    counts = splits["split"].value_counts().to_pylist()
    return DatasetRef(
        digest=look.samples,
        name=raw.dataset,
        samples={count["values"]: count["counts"] for count in counts},
        kind=_facts_in(look.samples).kind,
        quarantine=look.refused,
    )
