"""One experiment: everything that decides its results, read from one YAML file."""

from pathlib import Path

import yaml
from pydantic import Field, ValidationError, model_validator

from data_catalog.captions import AnyCaptioner, Template
from data_catalog.mixture import Mixture
from data_catalog.orderings import AnyOrdering
from data_catalog.refs import Spec
from data_catalog.sources import AnySource
from models.budget import AnyBudget
from models.merging.temporal import MergeSpec
from models.start import AnyStart
from models.updates import UpdateSpec


class StreamSpec(Spec):
    """The order in which concepts arrive, and in how many steps."""

    ordering: AnyOrdering
    steps: int = Field(20, ge=1)


class EvaluationSpec(Spec):
    """What checkpoints are scored on."""

    retention: tuple[str, ...]  # datasets held out of the stream: zero-shot retention is their mean
    adaptation: tuple[str, ...] | None = None  # knowledge accumulation; null: every dataset of the stream


class Recipe(Spec):
    """One way to live through the stream."""

    description: str = ""
    mixture: Mixture = Mixture()
    update: UpdateSpec = UpdateSpec()
    merge: MergeSpec = MergeSpec()


class ExperimentConfig(Spec):
    """Recipes compared on one stream, from the same weights, under one budget."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    seed: int = Field(0, ge=0)
    sources: tuple[AnySource, ...] = Field(min_length=1)
    pretraining: tuple[str, ...] = ()  # datasets whose training images are the pretraining pool
    captioner: AnyCaptioner = Template()
    start: AnyStart
    stream: StreamSpec
    batch_size: int = Field(512, ge=2)
    budget: AnyBudget
    evaluation: EvaluationSpec
    recipes: dict[str, Recipe] = Field(min_length=1)
    past_weights: tuple[
        float, ...
    ] = ()  # tried in the last merge of each merging recipe, to show what the weight trades

    @model_validator(mode="after")
    def _replays_only_what_there_is(self) -> "ExperimentConfig":
        for name, recipe in self.recipes.items():
            if recipe.mixture.pretraining > 0 and not self.pretraining:
                raise ValueError(
                    f"recipe {name!r} takes {recipe.mixture.pretraining} of each batch from the pretraining "
                    "pool, but `pretraining` names no dataset; name some or set its share to 0"
                )
        return self


def load(path: str | Path, seed: int | None = None) -> ExperimentConfig:
    """The experiment in a YAML file, with `seed` in place of its own if given.

    Raises ValueError that names the file and every key that is unknown, missing or out of range.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError as error:
        raise ValueError(f"there is no experiment file {path}; those of the project lie in flows/configs") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path} holds {type(raw).__name__}, expected a mapping with the keys of an experiment")
    if seed is not None:
        raw["seed"] = seed
        for source in raw.get("sources", []):
            if source.get("kind") == "synthetic":
                source["seed"] = seed
    return parse(raw, str(path))


def parse(raw: dict, origin: str) -> ExperimentConfig:
    """`raw` as an experiment; raises ValueError that lists every problem with its place in `origin`."""
    try:
        return ExperimentConfig.model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{origin} is not a valid experiment:\n" + problems(error)) from error


def problems(error: ValidationError) -> str:
    """One line per problem: where, what was expected, what was found."""
    return "\n".join(
        f"  {'.'.join(map(str, item['loc'])) or 'experiment'}: {item['msg']} (found {_short(item['input'])})"
        for item in error.errors()
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_yaml(config: ExperimentConfig) -> str:
    """The experiment with every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
