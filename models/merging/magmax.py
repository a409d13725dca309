"""MagMax, the largest change of each weight: Marczak et al. 2024, arXiv 2407.06322, section 4."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Choosing, Found


class Magmax(Choosing):
    """Take each weight from the expert that moved it most; the first one of equals."""

    kind: Literal["magmax"] = "magmax"
    BY_ROW: ClassVar[bool] = True

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the entries of the largest magnitude, times the weights where there are some."""
        factors = self.factors(len(part.experts))
        largest = reached = None
        for row, factor in zip(self.vectors(part, found), factors, strict=True):
            magnitude = row.abs().mul_(factor)
            if largest is None:
                largest, reached = row.clone(), magnitude
                continue
            largest = torch.where(magnitude > reached, row, largest)
            torch.maximum(reached, magnitude, out=reached)
        return self.onto(part, largest, found)
