"""Writers of fused captions; a new one is a file here and a member of the union below."""

from typing import Annotated

from pydantic import Field

from models.captioning.writers.local import Local
from models.captioning.writers.openai import OpenAI

AnyWriter = Annotated[Local | OpenAI, Field(discriminator="kind")]
