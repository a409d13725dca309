"""What techniques share that weigh experts by statistics of the data each was trained on."""

from typing import ClassVar

from torch import Tensor

from models.merging.linear import weighted
from models.merging.parts import Part
from models.merging.technique import Found, Technique


class Weighing(Technique):
    """The weighted mean of tensors without statistics; the others as the technique says."""

    USES_BASE: ClassVar[bool] = False

    def combine(self, part: Part, found: Found) -> Tensor:
        """One expert as it is, what has no statistics by the weighted mean, all else by `informed`."""
        shares = self.shares(len(part.experts))
        if len(part.experts) == 1:
            return part.experts[0]
        return weighted(part.experts, shares) if part.statistics is None else self.informed(part, shares)

    def informed(self, part: Part, shares: tuple[float, ...]) -> Tensor:
        """The merged values [size] of a part with statistics."""
        raise NotImplementedError
