"""Merging techniques; a new one is a file here and a member of the union below."""

from typing import Annotated

from pydantic import Field

from models.merging.breadcrumbs_linear import BreadcrumbsLinear
from models.merging.breadcrumbs_ties import BreadcrumbsTies
from models.merging.dare_linear import DareLinear
from models.merging.dare_ties import DareTies
from models.merging.fisher import Fisher
from models.merging.karcher import Karcher
from models.merging.linear import Linear
from models.merging.magmax import Magmax
from models.merging.model_stock import ModelStock
from models.merging.random import Random
from models.merging.regmean import Regmean
from models.merging.slerp import Slerp
from models.merging.tall_masks import TallMasks
from models.merging.task_arithmetic import TaskArithmetic
from models.merging.ties import Ties

AnyTechnique = Annotated[
    BreadcrumbsLinear
    | BreadcrumbsTies
    | DareLinear
    | DareTies
    | Fisher
    | Karcher
    | Linear
    | Magmax
    | ModelStock
    | Random
    | Regmean
    | Slerp
    | TallMasks
    | TaskArithmetic
    | Ties,
    Field(discriminator="kind"),
]
