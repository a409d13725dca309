"""The orders in which the concepts of a stream can arrive."""

from typing import Annotated

from pydantic import Field

from data_catalog.orderings.chunked import Chunked
from data_catalog.orderings.dataset_by_dataset import DatasetByDataset
from data_catalog.orderings.difficulty import Difficulty
from data_catalog.orderings.frequency import Frequency
from data_catalog.orderings.from_file import FromFile
from data_catalog.orderings.random import Random
from data_catalog.orderings.similarity import Similarity
from data_catalog.orderings.sql import Sql
from data_catalog.orderings.time import Time

AnyOrdering = Annotated[
    FromFile | Random | Similarity | Difficulty | Frequency | Time | DatasetByDataset | Chunked | Sql,
    Field(discriminator="kind"),
]
