"""Each weight from one expert, drawn at random: the control among the techniques of TIME, arXiv 2412.06712."""

from itertools import accumulate
from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.merging.parts import Part
from models.merging.random_bits import random_bits
from models.merging.technique import Choosing, Found


class Random(Choosing):
    """Draw for every weight whose task vector it takes."""

    kind: Literal["random"] = "random"
    USES_RANDOM: ClassVar[bool] = True

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the drawn entries; each expert is as likely as its weight says."""
        vectors = part.experts.sub_(part.base)
        name = found.drawn_as.get(part.name, part.name)
        bits = random_bits(found.seed, name, 0, part.start, vectors.shape[1]).to(vectors.device).long()
        return self.onto(part, vectors.gather(0, self._chosen(bits, len(vectors))[None])[0], found)

    def _chosen(self, bits: Tensor, experts: int) -> Tensor:
        """An expert for each of some integers below 2^31."""
        if self.weights is None:
            return (bits * experts) >> 31
        ends = [round(share * 2**31) for share in accumulate(self.shares(experts))]
        return torch.bucketize(bits, torch.tensor(ends[:-1], device=bits.device), right=True)
