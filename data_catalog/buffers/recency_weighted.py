"""A buffer that forgets slowly: what arrived long ago is drawn less often."""

from typing import Literal

import numpy as np
from pydantic import Field

from data_catalog.draws import Policy, PoolRows


class RecencyWeighted(Policy):
    """A sample is drawn half as often as one that arrived `half_life` steps later."""

    kind: Literal["recency_weighted"] = "recency_weighted"
    half_life: float = Field(gt=0)  # in steps

    def weights(self, rows: PoolRows, step: int) -> tuple[np.ndarray, np.ndarray]:
        age = step - 1 - rows.step  # 0 for the step just before
        return np.exp2(-age / self.half_life), rows.step
