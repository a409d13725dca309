"""Captioners; a new one is a file here and a member of the union below (`template` needs no model: data_catalog)."""

from typing import Annotated

from pydantic import Field

from data_catalog.captions import Template
from models.captioning.captioner import ImageCaptioner
from models.captioning.fusion import Fusion

AnyCaptioner = Annotated[Template | ImageCaptioner | Fusion, Field(discriminator="kind")]
