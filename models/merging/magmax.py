"""MagMax, the largest change of each weight: Marczak et al. 2024, arXiv 2407.06322, section 4."""

from typing import Literal

import torch
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Found, TaskVectorTechnique


class Magmax(TaskVectorTechnique):
    """Take each weight from the expert that moved it most; the first one of equals."""

    kind: Literal["magmax"] = "magmax"

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the largest entries."""
        vectors = self.vectors(part)
        largest = vectors[0].clone()
        size = largest.abs()
        for row in vectors[1:]:
            own = row.abs()
            torch.where(own > size, row, largest, out=largest)
            torch.maximum(size, own, out=size)
        return self.onto(part, largest, found)
