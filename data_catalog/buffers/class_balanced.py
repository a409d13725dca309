"""A buffer in which every concept counts the same, as in GDumb (Prabhu et al. 2020, ECCV) without its size limit."""

from typing import ClassVar, Literal

import numpy as np

from data_catalog.draws import Policy, PoolRows, balanced


class ClassBalanced(Policy):
    """Every concept streamed before is drawn equally often, its samples equally often among themselves."""

    USES: ClassVar[frozenset[str]] = frozenset({"concept"})

    kind: Literal["class_balanced"] = "class_balanced"

    def weights(self, rows: PoolRows, step: int) -> tuple[np.ndarray, np.ndarray]:
        return balanced(rows.concept)
