"""Interpolation of weights: Wortsman et al. 2022, arXiv 2203.05482; EMA-merge in FoMo-in-Flux, arXiv 2408.14471."""

from collections.abc import Sequence
from typing import Literal

from pydantic import field_validator
from torch import Tensor

from models.merging.technique import Technique
from models.weights import Weights, mapped


class Linear(Technique):
    """The weighted mean of the experts; a running merge sees (new expert, running weights) in this order."""

    kind: Literal["linear"] = "linear"
    weights: tuple[float, ...] | None = None  # one per expert, summing to 1; null is the plain mean

    @field_validator("weights")
    @classmethod
    def _sum_to_one(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if weights is not None and abs(sum(weights) - 1) > 1e-6:
            raise ValueError(f"merge weights {list(weights)} sum to {sum(weights):.6f}, expected 1; adjust `weights`")
        return weights

    def merge(self, base: Weights, experts: Sequence[Weights]) -> Weights:
        """The weighted mean, one tensor at a time; raises ValueError when the weights do not match the experts."""
        if self.weights is not None and len(self.weights) != len(experts):
            raise ValueError(
                f"{len(self.weights)} merge weights for {len(experts)} experts; give one per expert or null"
            )
        shares = self.weights or (1 / len(experts),) * len(experts)

        def mean(*tensors: Tensor) -> Tensor:
            total = shares[0] * tensors[0]
            for share, tensor in zip(shares[1:], tensors[1:], strict=True):
                total = total + share * tensor
            return total

        return mapped(mean, *experts)
