"""The orders in which the concepts of a stream can arrive."""

from typing import Annotated

from pydantic import Field

from data_catalog.orderings.from_file import FromFile
from data_catalog.orderings.random import Random

AnyOrdering = Annotated[FromFile | Random, Field(discriminator="kind")]
