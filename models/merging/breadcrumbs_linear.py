"""Model Breadcrumbs: Davari and Belilovsky 2023, arXiv 2312.06795, section 3."""

from typing import Literal

from torch import Tensor

from models.merging.breadcrumbs import Masking
from models.merging.parts import Part
from models.merging.technique import Found, Summing, total


class BreadcrumbsLinear(Masking, Summing):
    """Take the smallest and the largest entries out of each task vector and add up what is left."""

    kind: Literal["breadcrumbs_linear"] = "breadcrumbs_linear"

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the scaled sum of what stays."""
        return self.onto(part, total(self.weighed(self.kept(part, found))), found)
