"""What every kind of raw source offers: which datasets it holds, and where each of their samples lies.

A kind says what lies there (`listings`, by stat alone) and what the samples are (`candidates`); finding out what
changed, reading and checking images is the same for all of them and done by `data_catalog.inspection`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

import pyarrow as pa
from pydantic import AfterValidator, Field

from data_catalog import metadata, places
from data_catalog.files import FileStat
from data_catalog.refs import DIGEST, Spec
from data_catalog.shards import SAMPLES, TEXTS, DatasetFacts

if TYPE_CHECKING:
    from data_catalog.inspection_memory import Look

CANDIDATES = pa.schema(
    [
        *(SAMPLES.field(name) for name in ("split", "key", "concept", "target", "shard", "offset", "length")),
        SAMPLES.field("attributes"),
        *((caption, TEXTS) for caption in metadata.CAPTIONS),
        ("file", pa.string()),  # which of the listing's files holds the bytes
    ]
)


def _without_secrets(location: str) -> str:
    if "@" in location.partition("://")[2].partition("/")[0]:
        raise ValueError("the URL has a name or a key in it; keys come from the environment: give it without")
    return location


# a folder or a URL; it is stored and shown. By the schema alone a server refuses a run before it keeps its parameters
NO_USER = r"^(?!\w+://[^/]*@)"
Location = Annotated[str, AfterValidator(_without_secrets), Field(json_schema_extra={"pattern": NO_USER})]
Progress = Callable[[str, int, int], None]  # what is being looked at, done, in all


class RawDataset(Spec):
    """One dataset as it lies in its source now; equal digests mean equal bytes wherever they lie: a cache key."""

    source: str
    dataset: str
    digest: str = Field(pattern=f"^{DIGEST}$")


class Listing(NamedTuple):
    """What lies there of one dataset, found without opening a file."""

    dataset: str
    files: dict[str, FileStat]  # by path relative to the root of the source; metadata files elsewhere by any name
    facts: str  # JSON of everything else that decides the samples: registry entry, column mapping, ...


class Candidates(NamedTuple):
    """The samples that metadata and containers speak of, before any image was looked at."""

    facts: DatasetFacts
    rows: pa.Table  # schema CANDIDATES, in the order the samples shall have
    refused: list[dict]  # rows of QUARANTINE: what metadata or container already rule out


class Presence(NamedTuple):
    """What a place holds of one dataset, by stat alone; `partial` can be used, `incomplete` cannot."""

    dataset: str
    state: Literal["complete", "partial", "incomplete", "absent"]
    missing: tuple[str, ...]  # what the release has and this place has not


class Source(Spec):
    """A place with raw datasets; `name` begins the names of its shards, so it holds no slash."""

    FILE_IS_SAMPLE: ClassVar[bool] = False  # each file is one sample at most: counting files bounds what arrived

    name: str = Field(pattern=r"^\w[\w.-]*$")  # of the source: begins the names of its shards
    check: Literal["decode", "index"] = "decode"  # `index`: image bytes are not read before they are trained on

    def root(self) -> str:
        """The absolute folder or the URL that the shard names of this source are relative to."""
        raise NotImplementedError

    def locate(self) -> None:
        """Note in this home where its shards lie."""
        places.register_source(self.name, self.root())

    def listings(self) -> list[Listing]:
        """What lies there of each dataset, by name."""
        raise NotImplementedError

    def candidates(self, listing: Listing) -> Candidates:
        """The samples of one dataset as its metadata and containers tell them; ValueError if those are malformed."""
        raise NotImplementedError

    def may_be_empty(self) -> bool:
        """Whether data arrives here, so that having none yet is no error."""
        return False

    def arrived(self) -> tuple[list[Listing], dict[str, str]]:
        """The listings, and why which other files are not there yet, in one look."""
        return self.listings(), {}

    def presence(self) -> list[Presence]:
        """What is there and what is missing, of the datasets of which a source knows what belongs to them."""
        return []

    def scan(self, progress: Progress | None = None) -> list[RawDataset]:
        """The datasets now present, by name; costs a stat per file when nothing changed."""
        from data_catalog import inspection

        return inspection.scan(self, progress)

    def tables(self, raw: RawDataset) -> "Look":
        """Where the store has the tables of a dataset that was scanned; ValueError if the data is another by now."""
        from data_catalog import inspection

        return inspection.tables(self, raw)

    def read(self, raw: RawDataset) -> tuple[pa.Table, pa.Table]:
        """The usable samples (SAMPLES, with facts) and the refused (QUARANTINE); ValueError if `raw` is outdated."""
        from data_catalog import inspection

        return inspection.read(self, raw)
