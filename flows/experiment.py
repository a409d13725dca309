"""One experiment: everything that decides its results, read from one YAML file."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from data_catalog.buffers import AnyBuffer
from data_catalog.buffers.unlimited import Unlimited
from data_catalog.captions import CaptionPolicy, Template
from data_catalog.concept_scores import ScoredBy
from data_catalog.cutting import Cut
from data_catalog.duplicates import DuplicateSearch
from data_catalog.leaks import DuplicatePolicy
from data_catalog.mixture import Mixture
from data_catalog.orderings import AnyOrdering
from data_catalog.pools import AnyPool
from data_catalog.pools.uniform import Uniform
from data_catalog.redaction import shown
from data_catalog.refs import Spec
from data_catalog.sources import AnySource
from data_catalog.sources.synthetic import Synthetic
from data_catalog.validation import Validation
from flows import inheritance
from flows.engines import AnyEngine, Threads
from models.budget import AnyBudget
from models.captioning import AnyCaptioner
from models.evaluation.probe import Probe
from models.evaluation.prompts import Prompts
from models.launching import Alone, AnyLaunch
from models.merging.search import AnySearch, check_fit
from models.merging.temporal import MergeSpec
from models.sharding import check_method
from models.start import AnyStart, Scratch
from models.updates import UpdateSpec

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
COLUMNS_OF_TABLES = ("zero-shot", "dataset", "role")  # beside those of the recipes
Images = Literal["test", "validation", "clean"]
CONFIG_VERSION = 1  # of experiment files; a new one needs a migration of the trees of files before it


class DuplicatesSpec(Spec):
    """Which pictures count as the same, and what becomes of those; also makes scores on clean images."""

    search: DuplicateSearch = DuplicateSearch()
    policy: DuplicatePolicy = DuplicatePolicy()


class StreamSpec(Spec):
    """The order in which concepts arrive, in how many steps, and which texts and samples take part."""

    ordering: AnyOrdering  # of concepts
    steps: int | None = Field(None, ge=1)  # null: 20 for equal steps, else as many as the cut makes
    cut: Cut = "equal"  # into steps: of about equally many concepts, of one dataset each, or of one year each
    captions: CaptionPolicy = CaptionPolicy()
    scored_by: ScoredBy | None = None  # whose CLIP scores captions and pools are filtered by; null: the first weights
    duplicates: DuplicatesSpec | None = None  # null: not looked for

    @property
    def number(self) -> int | None:
        """The number of steps to cut the stream into, None for as many as the cut makes."""
        return 20 if self.steps is None and self.cut == "equal" else self.steps


class Inside(Spec):
    """Extra evaluations inside each step, which show the stability gap; they enter no summary (reference 9.3)."""

    every_samples: int = Field(ge=1)  # drawn between two of them


class EvaluationSpec(Spec):
    """What checkpoints are scored on, and when."""

    retention: tuple[str, ...] = Field(min_length=1)  # held out of the stream: zero-shot retention is their mean
    adaptation: tuple[str, ...] | None = None  # knowledge accumulation; null: every dataset of the stream
    validation: Validation | None = None  # training images kept aside to choose merges by; null: none
    images: Images = "test"  # what is scored: test images, those of `validation`, or test images not trained on
    subset: float | None = Field(None, gt=0, lt=1)  # of each set, scored after every step; null: whole sets
    own: tuple[AnySource, ...] = ()  # data that nothing is trained on; a set in no mean but those of `groups`
    groups: dict[str, tuple[str, ...]] = Field(default_factory=dict)  # of scored sets, each with a mean of its own
    weights: dict[str, Weight] = Field(default_factory=dict)  # of scored sets in all means; 1 where not named
    prompts: Prompts = Prompts()
    probe: Probe | None = None  # a linear classifier on the features, fitted to training images; null: none
    every: int = Field(1, ge=1)  # steps from one that is scored to the next; the first and the last always are
    inside: Inside | None = None  # null: none

    def is_scored(self, step: int, steps: int) -> bool:
        """Whether the weights after `step`, counted from 0, are scored."""
        return step in (0, steps - 1) or (step + 1) % self.every == 0

    @model_validator(mode="after")
    def _images_are_there(self) -> "EvaluationSpec":
        if self.images == "validation" and self.validation is None:
            raise ValueError("`images` is validation, but none are kept: set `validation`, e.g. {share: 0.1}")
        if self.images == "validation" and self.subset is not None:
            raise ValueError("`subset` is of test images, but `images` is validation: limit these by `validation.most`")
        return self

    @model_validator(mode="after")
    def _means_are_of_sets(self) -> "EvaluationSpec":
        given = {"`retention`": self.retention}
        given |= {} if self.adaptation is None else {"`adaptation`": self.adaptation}
        for name, members in (given | {f"`groups` {name!r}": sets for name, sets in self.groups.items()}).items():
            if not members or len(set(members)) < len(members):
                raise ValueError(f"{name} is of {[*members]}, expected names of scored sets, each once")
        return self


class Recipe(Spec):
    """One way to live through the stream."""

    description: str = ""  # shown in tables and reports
    mixture: Mixture = Mixture()
    buffer: AnyBuffer = Unlimited()  # which samples of earlier steps are replayed, and how often
    pool: AnyPool = Uniform()  # of pretraining samples
    update: UpdateSpec = UpdateSpec()
    merge: MergeSpec = MergeSpec()
    search: AnySearch | None = None  # techniques to choose from after every step, by validation images; null: none


class ExecutionSpec(Spec):
    """Where stages run. Two runs that differ in this alone re-use each other's results."""

    training: AnyLaunch = Alone()  # of each update
    stages: AnyEngine = Field(Threads(), description="of the other long stages")


class ExperimentConfig(Spec):
    """Recipes compared on one stream, from the same weights, under one budget."""

    evergreen_config: Literal[1] = CONFIG_VERSION  # of the form of this file
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")  # also of reports and Prefect artifacts
    seed: int = Field(0, ge=0)  # all randomness follows from it, but that of synthetic data, which has its own
    sources: tuple[AnySource, ...] = Field(min_length=1)  # where all data lies
    pretraining: tuple[str, ...] = ()  # datasets whose training images are the pretraining pool
    captioners: tuple[AnyCaptioner, ...] = (Template(),)  # `stream.captions` says which texts are trained with
    start: AnyStart  # the weights before the first step
    stream: StreamSpec
    batch_size: int = Field(512, ge=2)  # image-text pairs per iteration, of all pools together
    budget: AnyBudget  # what an update may cost, the same for every recipe
    evaluation: EvaluationSpec
    recipes: dict[str, Recipe] = Field(min_length=1)  # ways through the stream, by name
    past_weights: tuple[Share, ...] = ()  # tried in the last merge of merging recipes: what the weight trades
    execution: ExecutionSpec = Field(ExecutionSpec(), description="where it computes, which decides no result")

    def needs_caption_scores(self) -> bool:
        """Whether anything in it decides by how well texts fit their images."""
        policies = [policy for recipe in self.recipes.values() for policy in (recipe.buffer, recipe.pool)]
        return self.stream.captions.needs_scores() or any("score" in policy.USES for policy in policies)

    @model_validator(mode="after")
    def _names_are_unique(self) -> "ExperimentConfig":
        scored = [*(self.evaluation.adaptation or ()), *self.evaluation.retention]
        sources = [source.name for source in (*self.sources, *self.evaluation.own)]
        for key, names in {"sources": sources, "pretraining": list(self.pretraining), "evaluation": scored}.items():
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"`{key}` names {', '.join(twice)} more than once; give each its own name, once")
        return self

    @model_validator(mode="after")
    def _names_of_recipes_can_be_asked_for(self) -> "ExperimentConfig":
        if odd := [name for name in self.recipes if not name.strip() or "/" in name or name in COLUMNS_OF_TABLES]:
            raise ValueError(
                f"`recipes` has the names {odd}: a name is not empty, has no slash, which parts it from a step, and is "
                f"none of {', '.join(COLUMNS_OF_TABLES)}, which are columns of the report's tables"
            )
        return self

    @model_validator(mode="after")
    def _can_be_launched(self) -> "ExperimentConfig":
        launch = self.execution.training
        sizes = {"batch_size": self.batch_size}
        if isinstance(self.start, Scratch):
            sizes["start.batch_size"] = self.start.batch_size
        for key, size in sizes.items():
            if launch.total and size % launch.total:
                raise ValueError(
                    f"`{key}` is {size}, which the {launch.total} processes of `execution.training` cannot share "
                    f"equally: take a multiple of {launch.total}, or another number of processes"
                )
        if launch.sharded:
            for recipe in self.recipes.values():
                check_method(recipe.update.method)
        return self

    @model_validator(mode="after")
    def _knows_what_is_clean(self) -> "ExperimentConfig":
        if self.evaluation.images == "clean" and self.stream.duplicates is None:
            raise ValueError(
                "`evaluation.images` is clean, but nobody looks for test images among the training images: set "
                "`stream.duplicates`"
            )
        return self

    @model_validator(mode="after")
    def _searches_by_what_it_keeps(self) -> "ExperimentConfig":
        for name, recipe in self.recipes.items():
            if recipe.search is None:
                continue
            if self.evaluation.validation is None:
                raise ValueError(
                    f"recipe {name!r} has a `search`, but no images are kept to choose by: set `evaluation.validation`"
                )
            try:
                check_fit(recipe.merge, recipe.search.candidates(self.seed))
            except ValueError as error:
                raise ValueError(f"recipe {name!r}: {error}") from error
        return self

    @model_validator(mode="after")
    def _replays_only_what_there_is(self) -> "ExperimentConfig":
        if isinstance(self.start, Scratch) and not self.pretraining:
            raise ValueError("`start` trains on the pretraining pool, but `pretraining` names no dataset; name some")
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
    experiment = _parsed(inheritance.read(path), str(path))
    return experiment if seed is None else with_seed(experiment, seed)


def read_yaml(path: str | Path) -> dict:
    """The mapping in a YAML file with all it inherits; raises ValueError that names the file and what is wrong."""
    return inheritance.plain(inheritance.read(path))


def given(config: ExperimentConfig | str, seed: int | None = None) -> ExperimentConfig:
    """The experiment a flow was given, itself or as the path of its file, with `seed` in place of its own if given."""
    experiment = config if isinstance(config, ExperimentConfig) else load(config)
    return experiment if seed is None else with_seed(experiment, seed)


def with_seed(experiment: ExperimentConfig, seed: int) -> ExperimentConfig:
    """The experiment with another seed, also of the data it draws itself."""

    def drawn(sources: tuple[AnySource, ...]) -> tuple[AnySource, ...]:
        return tuple(s.model_copy(update={"seed": seed}) if isinstance(s, Synthetic) else s for s in sources)

    evaluation = experiment.evaluation.model_copy(update={"own": drawn(experiment.evaluation.own)})
    changes = {"seed": seed, "sources": drawn(experiment.sources), "evaluation": evaluation}
    return experiment.model_copy(update=changes)


def parse(raw: dict, origin: str) -> ExperimentConfig:
    """`raw` as an experiment; raises ValueError that lists every problem with its place in `origin`."""
    return _parsed(inheritance.given(raw, origin), origin)


def _parsed(tree: inheritance.Node, origin: str) -> ExperimentConfig:
    raw = inheritance.plain(tree)
    _check_version(raw.get("evergreen_config", CONFIG_VERSION), origin)
    try:
        return _kind_of(raw).model_validate(raw)
    except ValidationError as error:
        raise ValueError(f"{origin} is not a valid experiment:\n" + problems(error, tree)) from error


def _check_version(version: object, origin: str) -> None:
    """Before the keys, of which a later version may have others; raises ValueError."""
    if type(version) is not int or not 1 <= version <= CONFIG_VERSION:
        raise ValueError(
            f"{origin} has `evergreen_config: {version!r}`, and this Evergreen reads version {CONFIG_VERSION}: "
            "a higher one is for a later Evergreen, update it; or leave the key out"
        )


def _kind_of(raw: dict) -> type[ExperimentConfig]:
    """A living stream is an experiment too: whatever reads one reads both."""
    if "living" not in raw:
        return ExperimentConfig
    from flows.living_config import LivingConfig  # which imports this module

    return LivingConfig


def problems(error: ValidationError, tree: inheritance.Node | None = None) -> str:
    """One line per problem: where, what was expected, what was found, and in which file if `tree` has several."""
    lines = []
    for item in error.errors():
        file = inheritance.file_of(tree, item["loc"]) if tree else None
        elsewhere = f", in {file}" if tree and file != tree.file else ""
        place = ".".join(map(str, item["loc"])) or "experiment"
        lines.append(f"  {place}: {item['msg']} (found {_short(item['input'])}{elsewhere})")
    return "\n".join(lines)


def _short(value: object) -> str:
    text = shown(repr(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def as_yaml(config: ExperimentConfig) -> str:
    """The experiment with every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
