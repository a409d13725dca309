"""One living stream: an experiment with a single recipe and no last step, and when and how its live model moves."""

from pathlib import Path

from pydantic import Field, model_validator

from data_catalog.orderings.random import Random
from data_catalog.refs import Spec
from data_catalog.retention import KeepSpec
from data_catalog.settling import Settle
from data_catalog.sources import AnySource
from data_catalog.sources.one_dataset import OneDataset
from flows.experiment import ExperimentConfig, Recipe, StreamSpec, load
from models.alerting import AlertSpec
from models.gate import GateSpec


class ArrivalSpec(Spec):
    """When what has arrived is enough for a step."""

    least_samples: int = Field(1, ge=1, description="new training samples that start a step at once")
    longest_wait_hours: float | None = Field(
        None, gt=0, description="after so long fewer samples start a step too; null: they wait until there are enough"
    )
    settle: Settle = Field(
        Settle(), description="when a file counts as there, in sources that have no rule of their own"
    )


class LivingSpec(Spec):
    """What an endless stream needs beside an experiment."""

    arrivals: ArrivalSpec = ArrivalSpec()
    gate: GateSpec = GateSpec()
    ask_minutes: float | None = Field(
        4320, gt=0, description="so long a deployed run asks about a held step in the UI; null: it does not ask. The "
        "step stays held, and `evergreen promote` and `reject` work, before, meanwhile and after",
    )  # fmt: skip
    alerts: AlertSpec = AlertSpec()
    keep: KeepSpec = KeepSpec()  # what `evergreen gc` leaves


class LivingConfig(ExperimentConfig):
    """A stream without an end: every arrival is a step, every step ends at the gate; `budget` is that of one step."""

    stream: StreamSpec = StreamSpec(ordering=Random())  # for its captions and duplicates: the order is that of arrival
    living: LivingSpec = LivingSpec()

    @property
    def arriving(self) -> tuple[AnySource, ...]:
        """Its sources, each of a user's own data with the rule that says when a file counts as there."""
        rule = {"settle": self.living.arrivals.settle}
        return tuple(
            source.model_copy(update=rule) if isinstance(source, OneDataset) and source.settle is None else source
            for source in self.sources
        )

    @property
    def recipe_name(self) -> str:
        """The name of its recipe."""
        return next(iter(self.recipes))

    @property
    def recipe(self) -> Recipe:
        """How it updates and merges."""
        return self.recipes[self.recipe_name]

    @model_validator(mode="after")
    def _has_one_way_to_live(self) -> "LivingConfig":
        if len(self.recipes) != 1:
            raise ValueError(
                f"a living stream has one model and so one recipe, found {', '.join(self.recipes)}: compare recipes "
                "with `evergreen run`, and keep the best one here"
            )
        if self.stream.steps is not None or self.stream.cut != "equal":
            raise ValueError("`stream.steps` and `stream.cut` are of streams with an end: take them out")
        if self.past_weights:
            raise ValueError("`past_weights` are tried at the end of a stream, and this one has none: take them out")
        if self.evaluation.every != 1:
            raise ValueError(
                f"`evaluation.every` is {self.evaluation.every}, but the gate judges every step: take it out"
            )
        return self

    @model_validator(mode="after")
    def _starts_from_what_is_live(self) -> "LivingConfig":
        merge, schedule = self.recipe.merge, self.recipe.update.schedule
        if merge.init != merge.deploy or merge.init not in ("ema", "ft"):
            raise ValueError(
                f"a living stream starts each step from what is live, so `merge.init` and `merge.deploy` are both ema "
                f"or both ft; found {merge.init} and {merge.deploy}"
            )
        if merge.init == "ft" and merge.includes_zs("ft"):
            raise ValueError("`include_zs` with ft starts from no weights that were live: take ema, or leave it out")
        if schedule.spans_stream():
            raise ValueError(
                f"the schedule `{schedule.kind}` needs the number of steps, and this stream has no last one: take one "
                "for streams without an end, such as cosine_autoregressive, rsqrt_autoregressive or infinite"
            )
        return self


def load_living(path: str | Path, seed: int | None = None) -> LivingConfig:
    """The living stream in a YAML file; raises ValueError that names the file and every key that is wrong."""
    found = load(path, seed)
    if not isinstance(found, LivingConfig):
        raise ValueError(f"{path} is an experiment with an end: add `living: {{}}` to make a living stream of it")
    return found


def given_living(config: LivingConfig | str) -> LivingConfig:
    """The living stream a flow was given, itself or as the path of its file."""
    return config if isinstance(config, LivingConfig) else load_living(config)


def require_an_end(experiment: ExperimentConfig) -> None:
    """Raise ValueError for a living stream, where only an experiment with a last step can be run or searched."""
    if isinstance(experiment, LivingConfig):
        raise ValueError(
            f"{experiment.name} is a living stream, which has no last step: `evergreen live` makes a step of what has "
            "arrived; take `living` out of the file to run it as an experiment"
        )
