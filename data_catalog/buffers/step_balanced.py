"""A buffer in which every earlier step counts the same, however many samples it brought."""

from typing import Literal

import numpy as np

from data_catalog.draws import Policy, PoolRows, balanced


class StepBalanced(Policy):
    """Every earlier step is drawn equally often, its samples equally often among themselves."""

    kind: Literal["step_balanced"] = "step_balanced"

    def weights(self, rows: PoolRows, step: int) -> tuple[np.ndarray, np.ndarray]:
        return balanced(rows.step)
