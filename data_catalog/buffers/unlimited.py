"""The buffer of FoMo-in-Flux (arXiv 2408.14471; reference section 4): everything, uniform over samples."""

from typing import Literal

from data_catalog.draws import Policy


class Unlimited(Policy):
    """Every sample streamed before, equally often: large datasets dominate, as in the paper."""

    kind: Literal["unlimited"] = "unlimited"
