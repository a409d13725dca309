"""A pretraining pool of the samples whose text fits their image best, as in DataComp's filtering (arXiv 2304.14108)."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from data_catalog.draws import Policy, PoolRows, best_scored


class ClipScoreFiltered(Policy):
    """The best `share` of each pretraining dataset by CLIP score of the training text, uniform."""

    USES: ClassVar[frozenset[str]] = frozenset({"score"})

    kind: Literal["clip_score_filtered"] = "clip_score_filtered"
    share: float = Field(gt=0, le=1)  # of the samples, those whose texts fit best

    def kept(self, rows: PoolRows, seed: int) -> np.ndarray:
        return best_scored(rows, self.share)
