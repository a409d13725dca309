"""The profile `paper` of evaluation: what the benchmark's own evaluation would have said of a checkpoint (`legacy`)."""

from collections.abc import Sequence
from functools import cache, partial

import numpy as np
import pyarrow as pa

from data_catalog import store
from data_catalog.eval_sets import EvalSet
from models import embeddings
from models.checkpoints import CheckpointRef
from models.evaluation.legacy import (
    SHIFTED,
    owner_shift,
    shifted_recall,
    shifted_text_ranks,
    shrunken_positions,
    shrunken_scores,
)
from models.evaluation.metrics import classes_of
from models.evaluation.outcomes import owners_of
from models.evaluation.scores import EvalReport, Score
from models.evaluation.text_cache import text_vectors

SHARE = 0.1  # of a test set, in the paper
CUTS = 2  # before the first in-stream evaluation upstream; a third leaves a set of the same size


def paper_scores(
    checkpoint: CheckpointRef, eval_sets: Sequence[EvalSet], report: EvalReport, seed: int, share: float = SHARE
) -> list[Score]:
    """Scores with the defects, of whole test sets that `report` scored `checkpoint` on.

    Classification sets as cut twice; retrieval sets whose images have classes, none of them 0, with owners shifted, for
    which their images are embedded again. Raises ValueError where the report has no outcomes of a set.
    """
    if lacking := [eval_set.name for eval_set in eval_sets if eval_set.name not in report.outcomes]:
        raise ValueError(
            f"the report has no outcomes of {', '.join(lacking)}; score the checkpoint on these sets again"
        )
    build = cache(partial(embeddings.on_device, checkpoint))
    scores = []
    for eval_set in eval_sets:
        outcomes = store.read_table(report.outcomes[eval_set.name])
        if eval_set.kind == "classification":
            scores += _shrunken(eval_set, outcomes, seed, share)
        elif shift := _shift(eval_set):
            scores += shifted_recall(eval_set.name, _shifted(checkpoint, eval_set, outcomes, shift, build))
    return scores


def _shrunken(eval_set: EvalSet, outcomes: pa.Table, seed: int, share: float) -> list[Score]:
    targets = outcomes["target"].to_numpy()
    left = shrunken_positions(targets, classes_of(outcomes), share, seed, eval_set.name, CUTS)
    return shrunken_scores(eval_set.name, outcomes, left)


def _shift(eval_set: EvalSet) -> int:
    targets = store.read_table(eval_set.digest, ["target"])["target"].drop_null().to_numpy()
    return owner_shift(targets) if len(targets) else 0


def _shifted(checkpoint: CheckpointRef, eval_set: EvalSet, outcomes: pa.Table, shift: int, build) -> pa.Table:
    texts = text_vectors(checkpoint, [eval_set], build)[eval_set.name]
    images = embeddings.embed_images(
        build(), checkpoint.backbone, store.read_table(eval_set.digest, embeddings.IMAGE_COLUMNS)
    )
    ranks = shifted_text_ranks(images, texts, owners_of(eval_set, len(texts)), shift)
    lengths = outcomes["text_ranks"].combine_chunks().value_lengths().to_numpy()
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return outcomes.append_column(SHIFTED, pa.ListArray.from_arrays(ends, pa.array(ranks.numpy(), pa.int32())))
