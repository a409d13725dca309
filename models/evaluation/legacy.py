"""Two defects of the benchmark's own evaluation, for comparison with published numbers (reference 9.1 and 9.3).

The profile `paper` asks for these values beside the right ones; they never enter a summary, and nothing computes them
unasked. Upstream moves the owners of captions by the smallest class target of the split, which for FSCOCO is 1, so that
a caption counts for the wrong image; and it cuts its test sets again at every evaluation.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from data_catalog.seeds import rng
from data_catalog.subsets import choose
from models.evaluation.metrics import RECALL_AT, scores_of
from models.evaluation.ranking import rank_of
from models.evaluation.scores import Score

LEGACY = "_legacy"  # ends the name of a metric with a defect of the benchmark
SHIFTED = "shifted_text_ranks"  # column of retrieval outcomes: as text_ranks, for the images upstream took for owners


def owner_shift(targets: Sequence[int] | np.ndarray) -> int:
    """By how much upstream moves the owners of captions: the smallest class target of the split."""
    return int(np.min(targets))


def shifted_text_ranks(images: Tensor, texts: Tensor, owners: Tensor, shift: int, chunk: int = 1024) -> Tensor:
    """How many images come before the one upstream takes for the owner of each text: int64 [texts].

    `images` [n, dim], `texts` [m, dim], `owners` [m]. A text whose owner would lie before the first image has rank n:
    it never hits. With a shift of 0 these are the right ranks.
    """
    parts = []
    for rows, owner in zip(texts.split(chunk), (owners - shift).split(chunk), strict=True):
        ranks = rank_of(rows @ images.T, owner.clamp(min=0))
        parts.append(torch.where(owner < 0, len(images), ranks))
    return torch.cat(parts)


def shifted_recall(dataset: str, outcomes: pa.Table) -> list[Score]:
    """recall@k with shifted owners from text to image; from image to text upstream is right, and so is this.

    `outcomes` hold `SHIFTED` beside the columns of a retrieval set. Raises ValueError without it.
    """
    if SHIFTED not in outcomes.column_names:
        raise ValueError(f"the outcomes of {dataset} have no column {SHIFTED}; score it again under profile paper")
    shifted = outcomes.set_column(outcomes.column_names.index("text_ranks"), "text_ranks", outcomes[SHIFTED])
    names = {f"recall_at_{k}" for k in RECALL_AT}
    return [_legacy(score) for score in scores_of(dataset, "retrieval", shifted) if score.metric in names]


def shrunken_positions(
    targets: np.ndarray, classes: int, share: float, seed: int, dataset: str, evaluations: int
) -> np.ndarray:
    """Positions left of a test split after so many evaluations, each of which cuts what the one before left.

    The first cut is our fixed subset; upstream's final "full" evaluation is on what the last one left. The sizes are
    those of upstream, the images are drawn by our own generator.
    """
    left = np.arange(len(targets))
    for cut in range(evaluations):
        again = () if cut == 0 else (cut,)
        left = left[choose(targets[left], classes, share, rng(seed, "subset", dataset, "test", *again))]
    return left


def shrunken_scores(dataset: str, outcomes: pa.Table, positions: np.ndarray) -> list[Score]:
    """Metrics of a classification set over what is left of it; `outcomes` are those of the whole split."""
    return [_legacy(score) for score in scores_of(dataset, "classification", outcomes.take(pa.array(positions)))]


def _legacy(score: Score) -> Score:
    return score.model_copy(update={"metric": score.metric + LEGACY})
