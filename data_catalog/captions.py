"""Captions of a dataset: which text an image is trained with, and where that text came from."""

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from data_catalog import store
from data_catalog.refs import Ref, Spec
from data_catalog.shards import TEXTS, DatasetFacts, DatasetRef, facts

CAPTION_ROWS = pa.schema([("sample", pa.string()), ("kind", pa.string()), ("texts", TEXTS), ("captioner", pa.string())])


class CaptionRef(Ref):
    """The training texts of one dataset; the digest names a table (sample, kind, texts, captioner)."""

    dataset: str  # digest of the DatasetRef
    name: str
    captioner: str


class Captioner(Spec):
    """Makes texts for images that came with none."""

    def texts(self, known: DatasetFacts, samples: pa.Table) -> list[str | None]:
        """One text per row of `samples` (schema SAMPLES), None where it has nothing to say."""
        raise NotImplementedError


class Template(Captioner):
    """Fills the prompt template of the dataset with the class name; says nothing where there is no class."""

    kind: Literal["template"] = "template"

    def texts(self, known: DatasetFacts, samples: pa.Table) -> list[str | None]:
        if known.prompt_template is None:
            return [None] * samples.num_rows
        return [None if name is None else known.prompt(name) for name in samples["concept"].to_pylist()]


AnyCaptioner = Template  # becomes a union over `kind` with the second captioner


def caption(dataset: DatasetRef, captioner: AnyCaptioner) -> CaptionRef:
    """Choose the training texts of every image: its default caption, else the merged one, else what `captioner` says.

    The rule is that of the benchmark (reference section 2.3) with the captioner as the explicit fallback; an image
    without any text gets no row.
    """
    samples = store.read_table(dataset.digest)
    given = pc.coalesce(samples["default_caption"], samples["synthetic_merged_caption"])
    kind = pc.if_else(samples["default_caption"].is_valid(), "default", "synthetic_merged")
    is_given = given.is_valid()
    written = _written(captioner, facts(dataset), samples.filter(pc.invert(is_given)))
    came_along = _rows(samples["id"].filter(is_given), kind.filter(is_given), given.filter(is_given), "benchmark")
    table = pa.concat_tables([came_along, written]).combine_chunks()
    origin = {"stage": "caption", "dataset": dataset, "captioner": captioner}
    order = pc.sort_indices(pc.index_in(table["sample"], value_set=samples["id"].combine_chunks()))
    return CaptionRef(
        digest=store.write_table(table.take(order), **origin),
        dataset=dataset.digest,
        name=dataset.name,
        captioner=captioner.kind,
    )


def _written(captioner: AnyCaptioner, known: DatasetFacts, samples: pa.Table) -> pa.Table:
    texts = captioner.texts(known, samples)
    lists = pa.chunked_array([pa.array([None if text is None else [text] for text in texts], TEXTS)])
    spoken = lists.is_valid()
    kinds = pa.chunked_array([pa.array([captioner.kind] * len(texts), pa.string())])
    return _rows(samples["id"].filter(spoken), kinds.filter(spoken), lists.filter(spoken), captioner.kind)


def _rows(ids: pa.ChunkedArray, kinds: pa.ChunkedArray, texts: pa.ChunkedArray, captioner: str) -> pa.Table:
    return pa.table([ids, kinds, texts, pa.array([captioner] * len(ids), pa.string())], schema=CAPTION_ROWS)
