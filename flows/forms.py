"""The parameters that several flows share, as their forms in the UI check and explain them."""

from typing import Annotated

from pydantic import Field

from flows.experiment import ExperimentConfig
from flows.living_config import LivingConfig

# The path comes first: a form opens with it, and has the whole of a configuration as its other choice.
GivenExperiment = Annotated[str | ExperimentConfig, Field(examples=["flows/configs/demo.yaml"])]
GivenStream = Annotated[str | LivingConfig, Field(examples=["flows/configs/living.yaml"])]
GivenSeed = Annotated[int | None, Field(ge=0, examples=[1])]
