"""Which merges to try: a grid over the settings of techniques, or so many draws from ranges of them."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from data_catalog.refs import Spec
from data_catalog.seeds import rng
from models.merging import AnyTechnique
from models.merging.temporal import MergeSpec

_TECHNIQUE = TypeAdapter(AnyTechnique)


class Range(Spec):
    """Numbers to draw from, uniformly or uniformly in their logarithm."""

    low: float
    high: float
    log: bool = False
    pair: bool = False  # x stands for the two weights (x, 1 - x) of newest expert and running merge

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(
                f"`low` {self.low} and `high` {self.high} are no range to draw from: give low < high, "
                "and low > 0 where `log` is set"
            )
        return self

    def at(self, share: float) -> float | tuple[float, float]:
        """The value at `share` of the way from low to high, 0 <= share <= 1."""
        if self.log:
            value = float(np.exp(np.log(self.low) + share * np.log(self.high / self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        value = min(max(value, self.low), self.high)  # whatever the rounding
        return (value, 1 - value) if self.pair else value


class Grid(Spec):
    """Every combination of the settings listed for each technique; a setting that is no list is not varied."""

    kind: Literal["grid"] = "grid"
    techniques: tuple[dict[str, Any], ...] = Field(min_length=1)  # `kind`, and per field a list of settings

    @model_validator(mode="after")
    def _makes_techniques(self) -> "Grid":
        self.candidates()
        return self

    def candidates(self, seed: int = 0) -> tuple[AnyTechnique, ...]:
        """The techniques to try, each once, in the order of the lists; the last field varies fastest."""
        found = []
        for fields in self.techniques:
            _longest(fields)
            listed = [value if isinstance(value, list | tuple) else [value] for value in fields.values()]
            found += [_technique(dict(zip(fields, some, strict=True))) for some in itertools.product(*listed)]
        return _distinct(found)


class Sampled(Spec):
    """So many random draws, the techniques taking turns; more trials only add to fewer."""

    kind: Literal["sampled"] = "sampled"
    trials: int = Field(ge=1, le=10_000)  # draws
    techniques: tuple[dict[str, Any], ...] = Field(min_length=1)  # per field a setting, a list, or a range {low, high}

    @model_validator(mode="after")
    def _makes_techniques(self) -> "Sampled":
        for fields in self.techniques:
            count = _longest(fields)
            for share in (0.0, 1.0, *((place + 0.5) / count for place in range(count))):  # every entry of every list
                _technique(_drawn(fields, itertools.repeat(share)))
        return self

    def candidates(self, seed: int = 0) -> tuple[AnyTechnique, ...]:
        """The techniques to try, each once; trial i depends on `seed` and i alone."""
        found = []
        for trial in range(self.trials):
            luck = rng(seed, "merge_search", trial)
            found.append(_technique(_drawn(self.techniques[trial % len(self.techniques)], iter(luck.random, None))))
        return _distinct(found)


AnySearch = Annotated[Grid | Sampled, Field(discriminator="kind")]


def default_search(of_pair: bool) -> Grid:
    """A small grid over merges of newest expert and running merge, or over merges of all experts."""
    ties = {"kind": "ties", "density": [0.2, 0.5], "scale": [0.5, 1.0]}
    if of_pair:
        return Grid(techniques=({"kind": "linear", "weights": [(x / 10, (10 - x) / 10) for x in range(1, 10)]}, ties))
    schemes = {"kind": "linear", "weights": ["uniform", "linear", "quadratic", "fifth", "exp"]}
    return Grid(techniques=(schemes, {"kind": "task_arithmetic", "scale": [0.1, 0.3, 0.8]}, ties))


def check_number(techniques: Iterable[AnyTechnique], picks: int) -> None:
    """Raises ValueError that names the first technique which cannot merge so many checkpoints alone."""
    for technique in techniques:
        _check_statistics(technique)
        if technique.takes() not in (None, picks):
            raise ValueError(
                f"{technique.kind} merges {technique.takes()} checkpoints, but the search would give it {picks}; "
                "leave it out or search over the pair"
            )
        technique.shares(picks)


def check_fit(spec: MergeSpec, techniques: Iterable[AnyTechnique]) -> None:
    """Raises ValueError unless `spec` deploys a merge, and its technique and each of `techniques` can make it."""
    if spec.deploy not in ("ema", "all") and not (spec.deploy == "ft" and spec.includes_zs("ft")):
        raise ValueError(
            f"`search` looks for the merge to deploy, but `merge.deploy` is {spec.deploy}, which is none: deploy ema "
            "or all, or set `merge.include_zs`"
        )
    for technique in (spec.technique, *techniques):
        _check_statistics(technique)
        if spec.deploy != "all":
            check_number((technique,), 2)
        elif (takes := technique.takes()) is not None:
            raise ValueError(f"{technique.kind} merges {takes} checkpoints, but `merge.deploy` all of them")
        try:
            MergeSpec.model_validate({**spec.model_dump(exclude={"preset"}), "technique": technique.model_dump()})
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"]) from error


def _check_statistics(technique: AnyTechnique) -> None:
    if technique.USES_STATISTICS is not None:
        raise ValueError(
            f"{technique.kind} needs statistics of what it merges, which a search does not collect: leave it out"
        )


def settings_of(technique: AnyTechnique) -> dict[str, Any]:
    """What of a technique differs from its defaults, without its kind."""
    return technique.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)


def _drawn(value: Any, luck: Iterator[float]) -> Any:
    """`value` with a number for each range and one entry for each list; each takes the next of `luck`, in [0, 1]."""
    if isinstance(value, Mapping):
        if {"low", "high"} <= value.keys():
            return Range.model_validate(value).at(next(luck))
        return {name: _drawn(some, luck) for name, some in value.items()}
    if isinstance(value, list | tuple):
        return value[min(int(next(luck) * len(value)), len(value) - 1)]
    return value


def _longest(value: Any) -> int:
    """How many entries the longest list has that is drawn from; raises ValueError for an empty one."""
    if isinstance(value, Mapping):
        return max(map(_longest, value.values()), default=1)
    if not isinstance(value, list | tuple):
        return 1
    if not value:
        raise ValueError("a list to choose settings from is empty; list one or more, or leave the setting out")
    return len(value)


def _technique(fields: dict[str, Any]) -> AnyTechnique:
    try:
        return _TECHNIQUE.validate_python(fields)
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'kind'}: {item['msg']}" for item in error.errors())
        raise ValueError(f"{fields} is no technique to try: {what}") from error


def _distinct(found: list[AnyTechnique]) -> tuple[AnyTechnique, ...]:
    return tuple({technique.model_dump_json(): technique for technique in found}.values())
