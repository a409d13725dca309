"""Where fusion takes its draft captions from: a captioner, the data itself, or captions made earlier."""

from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import store
from data_catalog.caption_rows import CAME_ALONG, GIVEN, Origin, Texts, flat
from data_catalog.captions import Progress
from data_catalog.refs import DIGEST, Spec
from data_catalog.shards import DatasetFacts
from models.captioning.captioner import ImageCaptioner


class Shipped(Spec):
    """Captions that came with the data, by default those from before the benchmark merged them."""

    kind: Literal["shipped"] = "shipped"
    captions: Literal["default", "synthetic", "synthetic_merged"] = "synthetic"  # which of them

    def id(self) -> str:
        """The kind of caption; its text is in the sample table."""
        return f"{self.kind}:{self.captions}"

    def drafts(self, known: DatasetFacts, samples: pa.Table, progress: Progress | None) -> Texts:
        """One or more drafts per sample that has any."""
        rows, text = flat(samples[GIVEN[self.captions]])
        return Texts(self.captions, Origin(CAME_ALONG), rows, text)


class Recorded(Spec):
    """The captions behind the digest of a CaptionRef of the same dataset."""

    kind: Literal["recorded"] = "recorded"
    digest: str = Field(pattern=f"^{DIGEST}$")  # of the captions

    def id(self) -> str:
        """The digest."""
        return self.digest

    def drafts(self, known: DatasetFacts, samples: pa.Table, progress: Progress | None) -> Texts:
        """The recorded texts, without fallbacks; none for datasets that they are not about."""
        table = store.read_table(self.digest, ["sample", "text", "fallback"])
        table = table.filter(pc.invert(table["fallback"]))
        place = pc.index_in(table["sample"], value_set=samples["id"].combine_chunks())
        is_ours = place.is_valid()
        rows = place.filter(is_ours).to_numpy().astype(np.int64)
        return Texts("recorded", Origin(self.digest), rows, table["text"].filter(is_ours).combine_chunks())


class Made(ImageCaptioner):
    """A captioner that writes the drafts first; they are stored beside the fused captions, as kind `seed`."""

    def drafts(self, known: DatasetFacts, samples: pa.Table, progress: Progress | None) -> Texts:
        """What the captioner says of each image."""
        [said] = self.write(known, samples, progress).texts
        return said._replace(kind="seed")


AnySeeds = Annotated[Shipped | Recorded | Made, Field(discriminator="kind")]
