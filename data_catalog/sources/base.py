"""What every kind of raw source offers: which datasets it holds, and their samples."""

from pathlib import Path

import pyarrow as pa
from pydantic import Field

from data_catalog.refs import Spec


class RawDataset(Spec):
    """One dataset as it lies in its source now; equal digests mean equal bytes wherever they lie: a cache key."""

    source: str
    dataset: str
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$")


class Source(Spec):
    """A place with raw datasets; `name` begins the names of its shards, so it holds no slash."""

    name: str = Field(pattern=r"^[\w.-]+$")

    def root(self) -> Path:
        """The folder that the shard names of this source are relative to."""
        raise NotImplementedError

    def scan(self) -> list[RawDataset]:
        """The datasets now present, by name; costs a stat per file when nothing changed."""
        raise NotImplementedError

    def read(self, raw: RawDataset) -> tuple[pa.Table, pa.Table]:
        """The usable samples (SAMPLES, with facts) and the refused (QUARANTINE); ValueError if `raw` is outdated."""
        raise NotImplementedError
