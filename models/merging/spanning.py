"""What techniques share that go by angles: each tensor becomes a combination of the inputs' own tensors.

All they need of a tensor is the inner products of what they compare, so a tensor passes by twice and is never whole in
memory. A tensor of one number has no direction: there the weighted mean is taken.
"""

from typing import ClassVar

import torch
from torch import Tensor

from models.merging.linear import weighted
from models.merging.parts import Part
from models.merging.technique import Found, Technique


class Spanning(Technique):
    """A technique that gives every input one coefficient per tensor."""

    OF_VECTORS: ClassVar[bool] = False  # whether task vectors are compared, not weights

    def coefficients(self, gram: Tensor) -> list[float]:
        """From inner products [n, n], fp64: what the base and each of the n experts count; the base first."""
        raise NotImplementedError

    def of_scalars(self, gram: Tensor) -> list[float]:
        """The coefficients for a tensor of one number."""
        return self.coefficients(gram) if self.paper else self.mean(len(gram))

    def mean(self, experts: int) -> list[float]:
        """Coefficients of the weighted mean."""
        return [0.0, *self.shares(experts)]

    def seen(self, part: Part, before: Tensor | None = None) -> Tensor:
        """The inner products [n, n] over a part, fp64, added to those `before` it; its memory stays as it is."""
        rows = part.experts - part.base if self.OF_VECTORS else part.experts
        return inner_products(rows, before)

    def spanned(self, part: Part, coefficients: list[float]) -> Tensor:
        """The combination of a part, in its memory."""
        of_base, *of_experts = coefficients
        result = weighted(part.experts, tuple(of_experts))
        return result.add_(part.base, alpha=of_base) if of_base else result

    def combine(self, part: Part, found: Found) -> Tensor:
        """Of a part that is a whole tensor."""
        gram = self.seen(part)
        return self.spanned(part, self.of_scalars(gram) if part.is_scalar else self.coefficients(gram))


_BLOCK = 1024  # values that are multiplied at once: the order of additions does not depend on threads
_DOUBLES = 256 * _BLOCK  # values of a row that are doubles at a time: in memory that is taken once


def inner_products(rows: Tensor, before: Tensor | None = None) -> Tensor:
    """[n, n] of rows [n, size], fp64, added to those `before`: the same bits with any threads and parts of blocks."""
    count, size = rows.shape
    length = min(_DOUBLES if rows.device.type == "cpu" else size, size)
    doubles = rows.new_empty((count, length + -length % _BLOCK), dtype=torch.float64)
    for start in range(0, size, length):
        stop = min(start + length, size)
        doubles[:, : stop - start] = rows[:, start:stop]
        doubles[:, stop - start :] = 0
        blocks = doubles.view(count, -1, _BLOCK).transpose(0, 1)  # [blocks, n, values]
        products = torch.bmm(blocks, blocks.transpose(1, 2)).cpu()
        if before is not None:
            products = torch.cat([before[None], products])
        before = products.cumsum(0)[-1]  # one after the other
    return before
