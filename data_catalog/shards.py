"""Where image bytes lie, and the reference to one ingested dataset."""

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from data_catalog import metadata, places, store
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
        ("hash", pa.binary(32)),  # SHA-256 of the image bytes
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        *((caption, TEXTS) for caption in metadata.CAPTIONS),
    ]
)
QUARANTINE = pa.schema([("id", pa.string()), ("shard", pa.string()), ("reason", pa.string())])


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

    def prompt(self, classname: str) -> str:
        """The template filled with a class name; raises ValueError if there is no template."""
        if self.prompt_template is None:
            raise ValueError(
                f"{self.name} has no prompt template: give it one in datasets.json, or do not prompt for its classes"
            )
        return metadata.fill(self.prompt_template, classname, self.class_name_transform)


def facts(dataset: DatasetRef) -> DatasetFacts:
    """The facts stored with the sample table of `dataset`."""
    return DatasetFacts(**json.loads(pq.read_schema(store.locate(dataset.digest)).metadata[b"evergreen"]))


def with_facts(table: pa.Table, known: DatasetFacts) -> pa.Table:
    """The sample table with its facts in the schema metadata, as sorted JSON so that equal facts are equal bytes."""
    return table.replace_schema_metadata({"evergreen": json.dumps(known.model_dump(mode="json"), sort_keys=True)})


def ingest(source: "Source", raw: "RawDataset") -> DatasetRef:
    """Read one raw dataset, store its samples and what had to be refused; raises ValueError if nothing is usable."""
    samples, refused = source.read(raw)
    if not samples.num_rows:
        raise ValueError(
            f"no sample of {raw.dataset} in {source.name} is usable, {refused.num_rows} were refused, "
            f"first: {refused.slice(0, 1).to_pylist()}; repair the data"
        )
    places.register_source(source.name, source.root())
    known = json.loads(samples.schema.metadata[b"evergreen"])
    splits = samples["split"].value_counts().to_pylist()
    return DatasetRef(
        digest=store.write_table(samples, stage="ingest", raw=raw),
        name=raw.dataset,
        samples={count["values"]: count["counts"] for count in splits},
        kind=known["kind"],
        quarantine=store.write_table(refused, stage="ingest", raw=raw) if refused.num_rows else None,
    )


def read_sample(shard: str, offset: int, length: int, hash: bytes) -> bytes:
    """The bytes of one image; raises ValueError naming shard and place if they are not those that were ingested."""
    data = read_range(places.locate_shard(shard), offset, length)
    if hashlib.sha256(data).digest() != hash:
        raise ValueError(
            f"the {length} bytes at {offset} of {shard} changed since they were ingested: expected "
            f"SHA-256 {hash.hex()[:16]}, found {hashlib.sha256(data).hexdigest()[:16]} in {len(data)} bytes; "
            "restore the file or ingest it again"
        )
    return data


def read_range(path: Path, offset: int, length: int) -> bytes:
    """Up to `length` bytes of a file from `offset`; fewer if it ends before."""
    try:
        with open(path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} is gone since it was ingested: restore it, or set EVERGREEN_SOURCES to its new root"
        ) from error


def list_tar(path: Path) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """The places of the plain members of a tar, and the reasons why other members cannot be used."""
    plain, refused = {}, {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if reason := _reason_against(member, name):
                    refused[name] = reason
                elif member.isreg():
                    plain[name] = (member.offset_data, member.size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"cannot index {path}: {error}; expected a whole, uncompressed tar file") from error
    return plain, refused


def _reason_against(member: tarfile.TarInfo, name: str) -> str | None:
    if name.startswith("/") or ".." in name.split("/"):
        return "member name leaves the archive"
    if member.issparse() or not (member.isreg() or member.isdir()):
        return "member is a link, a device or sparse, not a plain file"
    return None
