"""MagMax, the largest change of each weight: Marczak et al. 2024, arXiv 2407.06322, section 4."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Found, TaskVectorTechnique


class Magmax(TaskVectorTechnique):
    """Take each weight from the expert that moved it most; the first one of equals."""

    kind: Literal["magmax"] = "magmax"
    BY_ROW: ClassVar[bool] = True

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the largest entries."""
        vectors = self.vectors(part, found)
        highest = next(vectors).clone()
        lowest = highest.clone()
        for row in vectors:
            torch.maximum(highest, row, out=highest)
            torch.minimum(lowest, row, out=lowest)
        balance = highest + lowest  # above 0 where the highest is the largest
        largest = torch.where(balance > 0, highest, lowest)
        if (drawn := ((balance == 0) & (highest > 0)).nonzero()[:, 0]).numel():
            largest[drawn] = _first_of_largest(torch.stack([row[drawn] for row in self.vectors(part, found)]))
        return self.onto(part, largest, found)


def _first_of_largest(vectors: Tensor) -> Tensor:
    return vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))[0]
