"""Model Stock, how far to go from the base to the mean of the experts: Jang et al. 2024, arXiv 2403.19522, section 4.

Per tensor, by the mean cosine c between task vectors: t = n c / (1 + (n - 1) c), which is 2 c / (1 + c) for two.
Opposite vectors make it grow beyond all bounds (the logit scale's cosine is always 1 or -1): where |t| would be above
10, and for tensors of one number, the mean is taken. `paper`: two experts and no such guard.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from models.merging.spanning import Spanning

_EPSILON = 1e-8  # in the denominator, as in the code of TIME
_FURTHEST = 10.0


class ModelStock(Spanning):
    """Interpolate between the base and the mean of the experts, the nearer to the base the less they agree."""

    kind: Literal["model_stock"] = "model_stock"
    OF_VECTORS: ClassVar[bool] = True

    def takes(self) -> int | None:
        """The published rule is of two."""
        return 2 if self.paper else None

    def coefficients(self, gram: Tensor) -> list[float]:
        """1 - t of the base and a share of t of each expert."""
        count = len(gram)
        if count == 1:
            return [0.0, 1.0]
        if self.paper and count != 2:
            raise ValueError(f"the published rule of `model_stock` takes 2 experts, found {count}; leave `paper` out")
        cosine = mean_cosine(gram)
        share = count * cosine / (1 + (count - 1) * cosine + _EPSILON)
        if abs(share) > _FURTHEST and not self.paper:
            return self.mean(count)
        return [1 - share, *(share * each for each in self.shares(count))]


def mean_cosine(gram: Tensor) -> float:
    """The mean over all pairs of vectors with inner products `gram` [n, n]; vectors of length 0 have cosine 0."""
    lengths = gram.diagonal().sqrt()
    cosines = gram / torch.outer(lengths, lengths).clamp(min=torch.finfo(gram.dtype).tiny)
    above = torch.triu_indices(len(gram), len(gram), offset=1)
    return float(cosines[above[0], above[1]].mean())
