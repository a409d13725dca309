"""Task arithmetic: Ilharco et al. 2022, arXiv 2212.04089, section 2."""

from typing import Literal

from models.merging.technique import Summing


class TaskArithmetic(Summing):
    """The base with the sum of all task vectors, times a scale."""

    kind: Literal["task_arithmetic"] = "task_arithmetic"
