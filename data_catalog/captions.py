"""Captions of a dataset: which text an image is trained with, and where that text came from."""

from typing import Annotated, Literal, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from data_catalog import store
from data_catalog.caption_policy import CaptionPolicy, training_texts
from data_catalog.caption_rows import CAPTION_ROWS, CaptionRef, CaptionScores, Origin, Texts, caption_rows
from data_catalog.refs import Spec
from data_catalog.shards import DatasetFacts, DatasetRef, facts

__all__ = [
    "CAPTION_ROWS",
    "CaptionPolicy",
    "CaptionRef",
    "CaptionScores",
    "Captioner",
    "Progress",
    "Template",
    "Written",
    "caption",
    "training_texts",
]


class Progress(Protocol):
    """Told how far a long stage is: its label, how much is done, and of how much."""

    def __call__(self, label: str, done: int, total: int, /) -> None: ...


class Written(NamedTuple):
    """What a captioner has to say of some samples, and what it took (tokens, money), by name."""

    texts: list[Texts]
    usage: dict[str, int | float]


class Captioner(Spec):
    """Makes texts for images."""

    kind: str
    images: Literal["all", "without_text"] = "all"  # `without_text`: those with neither a default nor a merged caption
    splits: Annotated[tuple[str, ...], Field(min_length=1)] | None = None  # null: all of them

    def id(self) -> str:
        """Names everything that decides its texts, and nothing else: no place, no device, no key."""
        return self.kind

    def identity(self) -> str:
        """Names everything that decides what it writes of a dataset: its id and which images it is asked about."""
        return f"{self.id()} images={self.images} splits={','.join(self.splits or ('*',))}"

    def write(self, known: DatasetFacts, samples: pa.Table, progress: Progress | None = None) -> Written:
        """Texts for rows of `samples` (schema SAMPLES); none where it has nothing to say."""
        raise NotImplementedError

    def asked_together(self) -> int | None:
        """Rows that it looks at in one go, if several processes are faster than one; None: one does it all."""
        return None

    def wanted(self, samples: pa.Table) -> pa.ChunkedArray:
        """Which rows of a sample table it is asked about."""
        wanted = pc.is_valid(samples["id"])
        if self.splits is not None:
            wanted = pc.and_(wanted, pc.is_in(samples["split"], pa.array(self.splits, pa.string())))
        if self.images == "without_text":
            silent = pc.and_(samples["default_caption"].is_null(), samples["synthetic_merged_caption"].is_null())
            wanted = pc.and_(wanted, silent)
        return wanted


class Template(Captioner):
    """Fills the prompt template of the dataset with the class name; says nothing where there is no class."""

    kind: Literal["template"] = "template"

    def write(self, known: DatasetFacts, samples: pa.Table, progress: Progress | None = None) -> Written:
        """One prompt per sample with a class."""
        rows = np.flatnonzero(samples["concept"].is_valid().to_numpy())
        if known.prompt_template is None or not len(rows):
            return Written([], {})
        names = samples["concept"].take(pa.array(rows)).combine_chunks().dictionary_encode()
        prompts = pa.array([known.prompt(name) for name in names.dictionary.to_pylist()], pa.string())
        origin = Origin(self.id(), prompt=known.prompt_template)
        return Written([Texts(self.kind, origin, rows, prompts.take(names.indices))], {})


def cut(dataset: DatasetRef, captioner: Captioner, size: int) -> list[tuple[int, int]]:
    """The images it is asked about in pieces of about `size`: the first of each and the one after; none if in one.

    Pieces begin where a batch of the whole would, so that a model sees the same images together.
    """
    if (together := captioner.asked_together()) is None:
        return []
    samples = store.read_table(dataset.digest, ["id", "split", "default_caption", "synthetic_merged_caption"])
    count, step = pc.sum(captioner.wanted(samples)).as_py() or 0, -(-size // together) * together
    return [(start, min(start + step, count)) for start in range(0, count, step)] if count > step else []


def caption_some(
    dataset: DatasetRef, captioner: Captioner, start: int, stop: int, progress: Progress | None = None
) -> None:
    """Let `captioner` write about a piece of `cut`, for those who listen to what it answers."""
    samples = store.read_table(dataset.digest)
    captioner.write(facts(dataset), samples.filter(captioner.wanted(samples)).slice(start, stop - start), progress)


def caption(dataset: DatasetRef, captioner: Captioner, progress: Progress | None = None) -> CaptionRef:
    """Let `captioner` write about the images of a dataset; which text is trained with is for a CaptionPolicy to say."""
    samples = store.read_table(dataset.digest)
    wanted = samples.filter(captioner.wanted(samples))
    texts, usage = captioner.write(facts(dataset), wanted, progress)
    origin = {"stage": "caption", "dataset": dataset, "captioner": captioner.id(), "usage": usage}
    return CaptionRef(
        digest=store.write_table(caption_rows(wanted["id"], texts), **origin),
        dataset=dataset.digest,
        name=dataset.name,
        captioner=captioner.id(),
    )
