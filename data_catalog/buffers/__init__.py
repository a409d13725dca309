"""What the buffer holds of everything streamed before a step, and how it is drawn from."""

from typing import Annotated

from pydantic import Field

from data_catalog.buffers.class_balanced import ClassBalanced
from data_catalog.buffers.clip_score_filtered import ClipScoreFiltered
from data_catalog.buffers.recency_weighted import RecencyWeighted
from data_catalog.buffers.reservoir import Reservoir
from data_catalog.buffers.step_balanced import StepBalanced
from data_catalog.buffers.unlimited import Unlimited

AnyBuffer = Annotated[
    Unlimited | ClassBalanced | StepBalanced | RecencyWeighted | Reservoir | ClipScoreFiltered,
    Field(discriminator="kind"),
]
