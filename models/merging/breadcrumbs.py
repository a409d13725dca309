"""Taking the smallest and the largest entries out of task vectors: Model Breadcrumbs, Davari and Belilovsky 2023.

arXiv 2312.06795, section 3. With magnitudes sorted ascending a_0..a_{N-1}, those from a_kb to a_{N-1-kt} stay, both
ends included: kb = int(N (1 - density)), kt = int(N gamma), as in the code of TIME, arXiv 2412.06712.
"""

import torch
from pydantic import Field
from torch import Tensor

from models.merging.parts import Part
from models.merging.technique import Found, TaskVectorTechnique, density_field, dropped, keep_from


class Masking(TaskVectorTechnique):
    """What Breadcrumbs does to task vectors, whatever is done with them then."""

    density: float = density_field(0.2)  # 1 - the share of the smallest that goes
    gamma: float = Field(0.01, ge=0, lt=1)  # share of the largest that goes

    def ranks(self, count: int) -> tuple[int, ...]:
        """The smallest and the largest magnitude that stay; raises ValueError if none does."""
        smallest, largest = dropped(count, self.density), int(count * self.gamma)
        if smallest + largest >= count:
            raise ValueError(
                f"density {self.density} and gamma {self.gamma} leave nothing of {count} values; raise `density` or "
                "lower `gamma`"
            )
        return (smallest + 1, count - largest)

    def prune(self, vector: Tensor, expert: int, part: Part, found: Found) -> None:
        """Take out the smallest and the largest entries."""
        low, high = found.thresholds[part.group][expert]
        keep_from(vector, low)
        vector.sub_(torch.hardshrink(vector, high))  # what is larger goes
