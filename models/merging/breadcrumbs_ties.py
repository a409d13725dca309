"""Breadcrumbs with the election of TIES: arXiv 2312.06795, section 3, and arXiv 2306.01708, Algorithm 1."""

from typing import Literal

from models.merging.breadcrumbs import Masking
from models.merging.electing import Electing


class BreadcrumbsTies(Masking, Electing):
    """Take the smallest and the largest entries out of each task vector, combine those that agree with a sign."""

    kind: Literal["breadcrumbs_ties"] = "breadcrumbs_ties"
