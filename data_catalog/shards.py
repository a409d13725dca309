"""Where image bytes lie, and the reference to one ingested dataset."""

from typing import Literal

from data_catalog.refs import Ref


class DatasetRef(Ref):
    """One ingested dataset; the digest names its sample table (schema in SAMPLES), its facts ride in the table's metadata."""

    name: str
    samples: dict[str, int]  # split -> accepted samples
    kind: Literal["classification", "retrieval"]
