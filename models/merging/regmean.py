"""RegMean: Jin et al. 2022, arXiv 2212.09849, section 3, Eq. 2, and Algorithm 1.

Each Linear becomes the one whose outputs are nearest to those of every expert on its own inputs. Solved for the
distance from the weighted mean, which is the same and loses fewer digits; `damping` keeps what no input reaches there.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.merging.parts import Part
from models.merging.weighing import Weighing


class Regmean(Weighing):
    """Linears by least squares over the inputs of all experts, everything else by the weighted mean."""

    kind: Literal["regmean"] = "regmean"
    USES_STATISTICS: ClassVar[str | None] = "gram"
    WHOLE: ClassVar[bool] = True
    alpha: float = Field(0.9, ge=0, le=1)  # how much of products of two different inputs counts
    damping: float = Field(1e-6, ge=0)  # relative to the mean squared input

    def informed(self, part: Part, shares: tuple[float, ...]) -> Tensor:
        """The least squares solution of a Linear's weight; raises ValueError where the inputs determine none."""
        experts = part.experts.view(len(shares), *part.shape)  # [n, out, in]
        mean = torch.zeros_like(experts[0])
        for expert, share in zip(experts, shares, strict=True):
            mean.add_(expert, alpha=share)
        products = mean.new_zeros(part.shape[1], part.shape[1])  # sum of G
        moments = torch.zeros_like(mean.T)  # sum of G (W - mean)^T  [in, out]
        for expert, gram, share in zip(experts, part.statistics, shares, strict=True):
            shrunk = self._shrunk(gram.to(mean.device)).mul_(share)
            moments.addmm_(shrunk, expert.sub_(mean).T)
            products.add_(shrunk)
        return mean.add_(self._solved(products, moments, part.name).T).flatten()

    def _shrunk(self, gram: Tensor) -> Tensor:
        """`gram` with what is off its diagonal times alpha; changes it."""
        diagonal = gram.diagonal().clone()
        gram.mul_(self.alpha).diagonal().copy_(diagonal)
        return gram

    def _solved(self, products: Tensor, moments: Tensor, name: str) -> Tensor:
        """products^-1 moments [in, out], in fp64."""
        wide = products.double()
        wide.diagonal().add_(self.damping * wide.diagonal().mean())
        factor, failed = torch.linalg.cholesky_ex(wide)
        if bool(failed) or not bool(factor.isfinite().all()):
            raise ValueError(
                f"the inputs of {name!r} do not determine its merge: raise `damping` above {self.damping:g}, lower "
                f"`alpha` below {self.alpha:g}, or collect more samples"
            )
        return torch.cholesky_solve(moments.double(), factor).to(moments.dtype)
