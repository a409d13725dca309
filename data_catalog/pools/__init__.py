"""Which samples of the pretraining pool are drawn, and how often each."""

from typing import Annotated

from pydantic import Field

from data_catalog.pools.clip_score_filtered import ClipScoreFiltered
from data_catalog.pools.dataset_balanced import DatasetBalanced
from data_catalog.pools.subset import Subset
from data_catalog.pools.uniform import Uniform
from data_catalog.pools.weighted import Weighted

AnyPool = Annotated[Uniform | DatasetBalanced | Weighted | Subset | ClipScoreFiltered, Field(discriminator="kind")]
