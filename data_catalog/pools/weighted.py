"""A pretraining pool whose datasets have given shares."""

from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from data_catalog.draws import Policy, PoolRows, balanced


class Weighted(Policy):
    """Each pretraining dataset gives its share of the draws, its samples equally often among themselves.

    Every dataset of the pool has a share, 0 to leave it out.
    """

    kind: Literal["weighted"] = "weighted"
    shares: dict[str, float] = Field(min_length=1)  # dataset -> share of the draws from the pool

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Weighted":
        total = sum(self.shares.values())
        if min(self.shares.values()) < 0 or abs(total - 1) > 1e-6:
            raise ValueError(f"the shares {self.shares} sum to {total:.3f}, expected 1 and none below 0; adjust them")
        return self

    def weights(self, rows: PoolRows, step: int) -> tuple[np.ndarray, np.ndarray]:
        present = {rows.names[code] for code in np.unique(rows.dataset)}
        if present != set(self.shares):
            raise ValueError(
                f"pool weighted has shares for {sorted(self.shares)}, but the pretraining pool holds "
                f"{sorted(present)}; give each of these a share, 0 to leave one out"
            )
        equal, groups = balanced(rows.dataset)
        return equal * np.array([self.shares.get(name, 0.0) for name in rows.names])[rows.dataset], groups
