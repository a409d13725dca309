"""The kinds of raw sources."""

from typing import Annotated

from pydantic import Field

from data_catalog.sources.fomo_in_flux import FomoInFlux
from data_catalog.sources.image_folder import ImageFolder
from data_catalog.sources.manifest import Manifest
from data_catalog.sources.synthetic import Synthetic

AnySource = Annotated[Synthetic | FomoInFlux | ImageFolder | Manifest, Field(discriminator="kind")]
