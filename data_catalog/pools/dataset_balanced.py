"""A pretraining pool in which every dataset counts the same, however many samples it has."""

from typing import Literal

import numpy as np

from data_catalog.draws import Policy, PoolRows, balanced


class DatasetBalanced(Policy):
    """Every pretraining dataset is drawn equally often, its samples equally often among themselves."""

    kind: Literal["dataset_balanced"] = "dataset_balanced"

    def weights(self, rows: PoolRows, step: int) -> tuple[np.ndarray, np.ndarray]:
        return balanced(rows.dataset)
