"""The pretraining pool of FoMo-in-Flux (arXiv 2408.14471; reference section 4): all of it, uniform over samples."""

from typing import Literal

from data_catalog.draws import Policy


class Uniform(Policy):
    """Every sample of the pretraining datasets equally often: large datasets dominate."""

    kind: Literal["uniform"] = "uniform"
