"""Model Breadcrumbs: Davari and Belilovsky 2023, arXiv 2312.06795, section 3."""

from typing import Literal

from models.merging.breadcrumbs import Masking
from models.merging.technique import Summing


class BreadcrumbsLinear(Masking, Summing):
    """Take the smallest and the largest entries out of each task vector and add up what is left."""

    kind: Literal["breadcrumbs_linear"] = "breadcrumbs_linear"
