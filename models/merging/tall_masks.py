"""Consensus of TALL masks: Wang et al. 2024, arXiv 2405.07813, section 4.

An expert's mask has the entries that matter to it: |own| > lambda |sum - own|. What fewer than `votes` masks have is
left out of the sum; no votes needed keeps all, as in the code of TIME (arXiv 2412.06712).
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Found, Summing, total


class TallMasks(Summing):
    """Add up the task vectors where enough experts care."""

    kind: Literal["tall_masks"] = "tall_masks"
    mask_lambda: float = Field(0.4, ge=0)  # how much an expert's own change must outweigh that of the others
    votes: int = Field(0, ge=0)  # experts that must care; 0: all entries stay

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the sum where it has the votes."""
        together = total(self.weighed(part, found))
        if self.votes:
            count = together.new_zeros(together.shape)
            for row in self.weighed(part, found):
                ahead = row.abs().sub_((together - row).abs_(), alpha=self.mask_lambda)
                count.add_(ahead.sign_().clamp_(min=0))
            together.mul_(count.sub_(self.votes - 1).clamp_(0, 1))
        return self.onto(part, together, found)
