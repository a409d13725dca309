"""Breadcrumbs with the election of TIES: arXiv 2312.06795, section 3, and arXiv 2306.01708, Algorithm 1."""

from typing import Literal

from torch import Tensor

from models.merging.breadcrumbs import Masking
from models.merging.electing import Electing
from models.merging.parts import Part
from models.merging.technique import Found


class BreadcrumbsTies(Masking, Electing):
    """Take the smallest and the largest entries out of each task vector, combine those that agree with a sign."""

    kind: Literal["breadcrumbs_ties"] = "breadcrumbs_ties"

    def pruned(self, part: Part, found: Found) -> Tensor:
        """What stays."""
        return self.weighed(self.kept(part, found))
