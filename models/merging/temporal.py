"""Which weights enter before and after an update: TIME, arXiv 2412.06712, section 3 (init, deploy, technique).

The running merge is kept from step to step, so that every step merges once, whatever the length of the stream.
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from data_catalog.refs import Spec
from data_catalog.store import locate, writing
from models.checkpoints import CheckpointRef
from models.merging import AnyTechnique, Linear
from models.merging.engine import merge_files
from models.merging.presets import PRESETS
from models.merging.statistics import StatisticsRef

Anchor = Literal["zs", "ft", "ema", "all"]  # pretrained weights, latest expert, running merge, one merge of all experts


_MANY = 100  # steps: what does not grow in so many does not grow


class MergeSpec(Spec):
    """Independent choices: where an update starts, what is deployed after it, and how weights are combined.

    `preset` names a published combination of init, deploy and include_zs, from which the fields given beside it differ.
    """

    preset: str | None = None  # see models/merging/presets.py
    init: Anchor = "ft"  # where an update starts: zs pretrained, ft latest expert, ema running merge
    deploy: Anchor = "ft"  # what is deployed after it; all: one merge of all experts
    include_zs: bool | None = None  # the pretrained weights are one of those merged; null: of the running merge only
    technique: AnyTechnique = Linear(weights=(0.1, 0.9))  # (expert, running): the paper's w = 0.9 on the old weights
    statistics_samples: int = Field(2048, ge=1)  # draws of each step, for techniques that weigh experts by their data

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, given: Any) -> Any:
        name = given.get("preset") if isinstance(given, dict) else None
        if name is None:
            return given
        if name not in PRESETS:
            raise ValueError(f"`preset` is {name!r}, expected one of {', '.join(PRESETS)}")
        return {**PRESETS[name], **given}

    @model_validator(mode="after")
    def _weights_fit(self) -> "MergeSpec":
        weights = self.technique.weights
        if not isinstance(weights, tuple):
            return self
        if "all" in (self.init, self.deploy):
            raise ValueError(
                f"merging all experts takes a growing number of weights, found {list(weights)}: give `weights` a "
                "scheme, such as linear or exp, or null"
            )
        if len(weights) != 2 and (self.needs_running or self.include_zs):
            raise ValueError(f"{len(weights)} merge weights, expected two: expert, and what it is merged with")
        return self

    @model_validator(mode="after")
    def _pretrained_weights_have_statistics(self) -> "MergeSpec":
        merging = [anchor for anchor in ("ema", "ft", "all") if anchor in (self.init, self.deploy)]
        if self.technique.USES_STATISTICS and any(self.includes_zs(anchor) for anchor in merging):
            raise ValueError(
                f"`{self.technique.kind}` weighs each expert by the data of its step, and the pretrained weights have "
                "none: set `include_zs: false`"
            )
        return self

    @property
    def needs_running(self) -> bool:
        """Whether any choice reads the running merge; only then is it computed."""
        return "ema" in (self.init, self.deploy)

    def includes_zs(self, anchor: Anchor) -> bool:
        """Whether the pretrained weights are a member of what `anchor` merges; of single weights they are none."""
        return (anchor == "ema") if self.include_zs is None else self.include_zs

    def growth(self) -> str | None:
        """Why the weights of a long stream would move away from the pretrained ones without bound; none if not.

        An update that starts from a merge has in it what was merged: if merging makes that longer, every step does.
        Running weights alone, beside experts that start elsewhere, may come out at up to their own length.
        """
        technique, rule = self.technique, f"merging by `{self.technique.kind}` with init {self.init}"
        cure = "so that the weights grow without bound: lower `scale` (or `lines`), or take another technique"
        if self.init == "all" and (longer := technique.gain(_MANY)) > 1:
            return (
                f"{rule} merges experts that began with each other: after {_MANY} steps equal task vectors come out "
                f"{longer:.3g} times as long, {cure}"
            )
        begun = technique.gain(2) if self.init == "ema" else 0.0  # of what an update begins with
        if self.init == "ft" and self.includes_zs("ft"):
            begun = technique.gain_beside_base()
        alone = technique.gain(2) / 2 if self.needs_running and self.init != "ema" else 0.0  # of the running weights
        if begun <= 1 and alone < 0.9995:
            return None
        grown = max(begun, alone)
        return f"{rule} multiplies what was learned before by {grown:.3g} in every step, {cure}"

    @model_validator(mode="after")
    def _takes_as_many(self) -> "MergeSpec":
        takes = self.technique.takes()
        if takes is not None and "all" in (self.init, self.deploy):
            raise ValueError(f"`{self.technique.kind}` merges {takes} experts, but init or deploy merges all of them")
        return self


class History(Spec):
    """The weights that later steps can start from; the running merge makes one merge per step enough."""

    pretrained: CheckpointRef
    experts: tuple[CheckpointRef, ...] = ()  # oldest first, straight after their updates
    running: CheckpointRef | None = None  # none before the first merge
    statistics: dict[str, StatisticsRef] = Field(default_factory=dict)  # by the digest of the checkpoint they are of

    @classmethod
    def start(cls, pretrained: CheckpointRef) -> "History":
        """The history before the first step."""
        return cls(pretrained=pretrained)

    @property
    def expert(self) -> CheckpointRef:
        """The latest one; the pretrained weights before the first step."""
        return self.experts[-1] if self.experts else self.pretrained

    def members(self, anchor: Anchor, include_zs: bool) -> tuple[CheckpointRef, ...]:
        """What an anchor merges, oldest first; a single one stands for itself.

        The running merge is one already: see `before`.
        """
        if anchor == "ema":
            return (self.running or self.pretrained,)
        if anchor == "zs" or not self.experts:
            return (self.pretrained,)
        chosen = self.experts if anchor == "all" else self.experts[-1:]
        return (self.pretrained, *chosen) if include_zs else chosen

    def before(self, include_zs: bool) -> CheckpointRef | None:
        """The running merge that the next expert enters; none where it is the first member."""
        return self.running or (self.pretrained if include_zs else None)

    def with_statistics(self, statistics: StatisticsRef | None) -> "History":
        """The history with the statistics of a checkpoint, if there are some."""
        if statistics is None:
            return self
        return self.model_copy(update={"statistics": {**self.statistics, statistics.checkpoint.digest: statistics}})

    def with_expert(self, expert: CheckpointRef, running: CheckpointRef | None = None) -> "History":
        """The history after a step that ended in `expert` and, where there is one, the running merge `running`."""
        return self.model_copy(update={"experts": (*self.experts, expert), "running": running})

    def with_running(self, running: CheckpointRef) -> "History":
        """The history whose running merge is `running`."""
        return self.model_copy(update={"running": running})


def merge(
    base: CheckpointRef,
    picks: Sequence[CheckpointRef],
    technique: AnyTechnique,
    seed: int = 0,
    newest: int = -1,
    statistics: Sequence[str] = (),
) -> CheckpointRef:
    """Combine `picks` around `base`, part by part, and store the result.

    `newest`: the pick that integers are taken from; `statistics`: digests of one per pick, where the technique uses
    them. Raises ValueError for picks that do not fit together.
    """
    parents = {"base": base.digest, "picks": [pick.digest for pick in picks]}
    drawn = {"seed": seed} if technique.USES_RANDOM else {}
    known = {"statistics": list(statistics)} if statistics else {}
    with writing(
        backbone=picks[newest].backbone, made_by="merge", technique=technique, parents=parents, **drawn, **known
    ) as artifact:
        merge_files(
            technique, locate(base.digest), [locate(pick.digest) for pick in picks], artifact.path,
            seed=seed, newest=newest, statistics=[locate(digest) for digest in statistics],
        )  # fmt: skip
    return CheckpointRef(digest=artifact.digest, backbone=picks[newest].backbone)


def pair(technique: AnyTechnique, expert: CheckpointRef, old: CheckpointRef) -> tuple[list[CheckpointRef], int]:
    """(the two in the order that weights are given in, which of them is the newest) of a merge with what was before.

    Numbers are (expert, old); a scheme of recency goes from old to new.
    """
    return ([old, expert], 1) if isinstance(technique.weights, str) else ([expert, old], 0)


def warn_of_growth(spec: MergeSpec, recipe: str) -> None:
    """Log a warning if the weights of `recipe` would grow without bound."""
    if (why := spec.growth()) is not None:
        logging.getLogger(__name__).warning("recipe %s: %s", recipe, why)
