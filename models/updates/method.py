"""What every update method is: which parameters train, what is added to the loss, and how weights come out again."""

from collections.abc import Mapping

from torch import Tensor, nn

from data_catalog.refs import Spec


class Method(Spec):
    """A way to change weights in one step; the defaults are full finetuning."""

    kind: str

    def name(self) -> str:
        """How tables call the method: its kind, with what tells its variants apart."""
        return self.kind

    def prepare(self, model: nn.Module, seed: int) -> nn.Module:
        """The module to train; parameters that must not change have `requires_grad` off afterwards."""
        return model

    def penalty(self, model: nn.Module) -> Tensor | None:
        """A term added to the contrastive loss of every iteration."""
        return None

    def finish(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The weights of the trained `model`, under the names of the backbone."""
        return model.state_dict()
