"""A pretraining pool cut down to a fixed random choice, as the 2M pairs of LAION-400M in FoMo-in-Flux."""

from typing import Literal

import numpy as np
from pydantic import Field

from data_catalog.draws import Policy, PoolRows
from data_catalog.seeds import rng


class Subset(Policy):
    """The same `size` samples of the pool at every step, chosen by the seed, uniform."""

    kind: Literal["subset"] = "subset"
    size: int = Field(ge=1)  # samples kept

    def kept(self, rows: PoolRows, seed: int) -> np.ndarray:
        if self.size > len(rows.step):
            raise ValueError(
                f"pool subset is to have {self.size} samples, but the pretraining pool has {len(rows.step)}; "
                "lower `size`, or use pool uniform"
            )
        return np.sort(rng(seed, "subset").permutation(len(rows.step))[: self.size])
