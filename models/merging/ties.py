"""TIES-merging: Yadav et al. 2023, arXiv 2306.01708, Algorithm 1; trimming as in the code of TIME, arXiv 2412.06712.

Of N magnitudes of a half of the model, those below the k-th smallest go, k = int(N (1 - density)). k = 0 trims nothing;
in that code it is an error, which `paper` keeps.
"""

from typing import Literal

from torch import Tensor

from models.merging.electing import Electing
from models.merging.parts import Part
from models.merging.technique import Found, density_field, dropped, keep_from


class Ties(Electing):
    """Trim each task vector, elect one sign per weight, combine the experts that agree with it."""

    kind: Literal["ties"] = "ties"
    density: float = density_field(0.2)  # share of each task vector that survives the trim

    def ranks(self, count: int) -> tuple[int, ...]:
        """The smallest magnitude that stays, if any goes."""
        rank = dropped(count, self.density)
        if rank == 0 and self.paper:
            raise ValueError(f"density {self.density} of {count} values trims none, an error in the published code")
        return (rank,) if rank else ()

    def prune(self, vector: Tensor, expert: int, part: Part, found: Found) -> None:
        """Trim the small entries."""
        for threshold in found.thresholds[part.group][expert]:
            keep_from(vector, threshold)
