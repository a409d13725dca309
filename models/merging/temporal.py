"""Which weights enter before and after an update: TIME, arXiv 2412.06712, section 3 (init, deploy, technique)."""

from collections.abc import Sequence
from typing import Literal

from data_catalog.refs import Spec
from models.checkpoints import CheckpointRef, load, save
from models.merging import AnyTechnique, Linear

Anchor = Literal["zs", "ft", "ema"]  # pretrained weights, latest expert, running merge of all experts


class MergeSpec(Spec):
    """Independent choices: where an update starts, what is deployed after it, and how weights are combined."""

    init: Anchor = "ft"
    deploy: Anchor = "ft"
    technique: AnyTechnique = Linear(weights=(0.1, 0.9))  # (expert, running): the paper's w = 0.9 on the old weights

    @property
    def needs_running(self) -> bool:
        """Whether any choice reads the running merge; only then is it computed."""
        return "ema" in (self.init, self.deploy)


class History(Spec):
    """The weights that later steps can start from; the running merge makes one merge per step enough."""

    pretrained: CheckpointRef
    expert: CheckpointRef  # the latest one; the pretrained weights before the first step
    running: CheckpointRef

    @classmethod
    def start(cls, pretrained: CheckpointRef) -> "History":
        """The history before the first step."""
        return cls(pretrained=pretrained, expert=pretrained, running=pretrained)

    def pick(self, anchor: Anchor) -> CheckpointRef:
        """The weights an anchor stands for."""
        return {"zs": self.pretrained, "ft": self.expert, "ema": self.running}[anchor]

    def with_expert(self, expert: CheckpointRef, running: CheckpointRef) -> "History":
        """The history after a step that ended in `expert` and the running merge `running`."""
        return self.model_copy(update={"expert": expert, "running": running})


def merge(base: CheckpointRef, picks: Sequence[CheckpointRef], technique: AnyTechnique) -> CheckpointRef:
    """Combine `picks` around `base`, tensor by tensor, and store the result."""
    merged = technique.merge(load(base), [load(pick) for pick in picks])
    parents = {"base": base.digest, "picks": [pick.digest for pick in picks]}
    return save(merged, picks[-1].backbone, made_by="merge", technique=technique, parents=parents)
