"""L2-SP: stay near the weights one starts from; Li et al. 2018, arXiv 1802.01483, section 3.2.

The paper's penalty is alpha/2 |w - w0|^2 on the pretrained part and beta/2 |w|^2 on new layers, of which there are none
here. It chooses alpha by validation and has no default; 0.1 is our choice. The weight decay towards 0 that AdamW adds
is not switched off: `weight_decay: 0` gives the paper's objective.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from models.updates.anchored import Anchored
from models.updates.carried import clones, trained
from models.updates.method import Carried, Given
from models.updates.quadratic import kept, quadratic_penalty


class L2Sp(Anchored):
    """Finetune with a penalty on the squared distance to an anchor."""

    kind: Literal["l2_sp"] = "l2_sp"
    alpha: float = Field(0.1, ge=0)  # strength of the penalty

    def carry(self, model: nn.Module, given: Given) -> Carried:
        """The anchor of every parameter that trains."""
        weights, anchor = trained(model), self.anchored(given)
        return Carried(fixed={"anchor": clones(weights) if anchor is None else kept(anchor, weights, "the anchor")})

    def penalty(self, model: nn.Module, carried: Carried) -> Tensor:
        """alpha/2 times the squared distance."""
        return self.alpha / 2 * quadratic_penalty(trained(model), carried.fixed["anchor"])
