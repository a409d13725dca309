"""Single images on which the start and the end of a stream differ: what was learned, what was lost."""

import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from typing import Literal

import numpy as np
import pyarrow as pa
from PIL import Image

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from data_catalog.outage import Outage
from data_catalog.reading import read_samples
from data_catalog.refs import Spec
from data_catalog.sources.images import open_rgb
from models.evaluation.record import ExperimentRecord, RecipeRecord
from models.evaluation.scores import EvalReport

PER_RECIPE = 6  # of each sort
SIDE, QUALITY = 160, 70  # pixels of the longer side of a picture on the page, and how finely it is stored
WHERE = ["shard", "offset", "length", "hash"]

Change = Literal["learned", "lost"]


class Example(Spec):
    """One image that was a hit at one end of the stream and a miss at the other."""

    dataset: str
    row: int  # in the evaluation set
    change: Change
    own: tuple[str, ...]  # the name of its class, or its captions
    before: tuple[str, ...]  # classification: the best five classes, best first; retrieval: ranks in words
    after: tuple[str, ...]


def examples(record: ExperimentRecord, recipe: RecipeRecord, change: Change, count: int = PER_RECIPE) -> list[Example]:
    """So many images that `recipe` learned or lost between the start and its last step, taken from all sets in turn.

    Of a classification set those come first that the weights which hit were surest of; of a retrieval set those whose
    rank changed most. None where the record does not say what became of each image. Raises MissingArtifact.
    """
    last = recipe.steps[-1].scores
    chosen = [_rows(record.zero_shot, last, eval_set, change, count) for eval_set in record.eval_sets]
    in_turn = (pair for pair in chain.from_iterable(zip_longest(*chosen)) if pair is not None)
    first = [pair for pair, _ in zip(in_turn, range(count), strict=False)]
    return [_example(record.zero_shot, last, eval_set, row, change) for eval_set, row in first]


def pictures(record: ExperimentRecord, shown: Iterable[Example]) -> Iterator[bytes | None]:
    """The image of each example, small, as WebP; None where it cannot be read from where it was ingested."""
    sets = {eval_set.name: eval_set for eval_set in record.eval_sets}
    for example in shown:
        place = store.read_table(sets[example.dataset].digest, WHERE).slice(example.row, 1)
        try:
            (data,) = read_samples(place)
        except (ValueError, Outage):  # gone, changed or out of reach: the words about it still hold
            yield None
        else:
            yield _small(open_rgb(data))


def _rows(
    before: EvalReport, after: EvalReport, eval_set: EvalSet, change: Change, count: int
) -> list[tuple[EvalSet, int]]:
    """The rows of the images to show of one set, best first."""
    if eval_set.name not in before.outcomes or eval_set.name not in after.outcomes:
        return []
    ends = [_outcomes(report, eval_set) for report in (before, after)]
    hit, missed = ends[::-1] if change == "learned" else ends
    rank = "rank" if eval_set.kind == "classification" else "image_rank"
    ranks = [table[rank].to_numpy() for table in (hit, missed)]
    changed = np.flatnonzero((ranks[0] == 0) & (ranks[1] > 0))
    weight = hit["confidence"].to_numpy() if eval_set.kind == "classification" else ranks[1]
    best = changed[np.argsort(-weight[changed].astype(np.float64), kind="stable")]
    return [(eval_set, int(row)) for row in best[:count]]


def _example(before: EvalReport, after: EvalReport, eval_set: EvalSet, row: int, change: Change) -> Example:
    ends = [_outcomes(report, eval_set).slice(row, 1).to_pylist()[0] for report in (before, after)]
    if eval_set.kind == "classification":
        names = _class_names(eval_set)
        told = [tuple(names[place] for place in end["top"] if place >= 0) for end in ends]
        own = (names[ends[0]["target"]],)
    else:
        told = [_ranks_in_words(end) for end in ends]
        first, last = (store.read_table(eval_set.digest, [n])[n][row].as_py() for n in ("first_text", "last_text"))
        own = tuple(_texts(eval_set)[first:last])
    return Example(dataset=eval_set.name, row=row, change=change, own=own, before=told[0], after=told[1])


def _ranks_in_words(end: dict) -> tuple[str, ...]:
    above, texts = end["image_rank"], end["text_ranks"]
    found = f"own caption at place {above + 1} among the captions"
    return found, f"the image at place {', '.join(str(rank + 1) for rank in texts)} among the images"


def _class_names(eval_set: EvalSet) -> list[str]:
    if eval_set.classnames is not None:
        return json.loads(store.read_bytes(eval_set.classnames))
    return [text if isinstance(text, str) else text[0] for text in _texts(eval_set)]


def _texts(eval_set: EvalSet) -> list:
    return json.loads(store.read_bytes(eval_set.texts))


def _outcomes(report: EvalReport, eval_set: EvalSet) -> pa.Table:
    table = store.read_table(report.outcomes[eval_set.name])
    if table.num_rows != eval_set.samples:
        raise ValueError(
            f"{report.checkpoint[:19]} was scored on {table.num_rows} images of {eval_set.name}, but the record names "
            f"a set of {eval_set.samples}; run the experiment again"
        )
    return table


def _small(picture: Image.Image) -> bytes:
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY)
    return buffer.getvalue()
