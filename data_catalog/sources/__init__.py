"""The kinds of raw sources."""

from typing import Annotated

from pydantic import Field

from data_catalog.sources.clip_benchmark import ClipBenchmark
from data_catalog.sources.fomo_in_flux import FomoInFlux
from data_catalog.sources.image_folder import ImageFolder
from data_catalog.sources.manifest import Manifest
from data_catalog.sources.parquet_images import ParquetImages
from data_catalog.sources.synthetic import Synthetic
from data_catalog.sources.tar_archive import TarArchive
from data_catalog.sources.webdataset import WebDataset

AnySource = Annotated[
    Synthetic | FomoInFlux | ImageFolder | Manifest | WebDataset | ParquetImages | TarArchive | ClipBenchmark,
    Field(discriminator="kind"),
]
