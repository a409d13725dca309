"""Linear probe: a linear classifier on frozen image features (Radford et al. 2021, arXiv 2103.00020, section 3.2)."""

from typing import Annotated

from pydantic import Field

from data_catalog.refs import Spec


class Probe(Spec):
    """Multinomial logistic regression on unit features of the training images, fitted by L-BFGS.

    Of several `l2` the one is taken that answers best on the held-out share of the training images, the first of
    equals; then it is fitted to all of them.
    """

    l2: tuple[Annotated[float, Field(gt=0)], ...] = Field((1e-6, 1e-5, 1e-4, 1e-3, 1e-2), min_length=1)  # per image
    held_out: float = Field(0.2, gt=0, lt=1)  # share of the training images that chooses among several `l2`
    iterations: int = Field(200, ge=1)  # of L-BFGS at most; the paper allows 1,000
    most_per_class: int | None = Field(None, ge=1)  # training images of a class at most, the first of the table; all
    seed: int = 0  # of the held-out share
