"""What the methods share that train some of a model's own parameters and leave the others as they are."""

from typing import Literal

from torch import nn

from models.towers import tower_of
from models.updates.method import Method

Towers = Literal["image", "text", "both"]


class Selected(Method):
    """Train the parameters that `chosen` names; a tower in which none trains runs as it does in an evaluation."""

    def prepare(self, model: nn.Module, seed: int) -> nn.Module:
        """`model` with every other parameter fixed; raises ValueError if it has none of the chosen kind."""
        names = self.chosen(model)
        if not names:
            raise ValueError(f"this model has no parameter that the method {self.name()!r} trains; choose another")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names)
        still = {"image", "text"} - {tower_of(name) for name in names}
        for name, module in model.named_modules():
            if name and tower_of(name) in still:
                module.training = False  # dropout is off and running statistics stay, as parts of a fixed tower
        return model

    def chosen(self, model: nn.Module) -> set[str]:
        """The names of the parameters that train."""
        raise NotImplementedError


class SelectedKind(Selected):
    """Train one kind of parameter wherever it occurs, in one tower or in both."""

    towers: Towers = "both"  # that train
    train_logit_scale: bool = False  # temperature and bias of the loss too; fixed in FoMo-in-Flux

    def name(self) -> str:
        """How tables call the method."""
        return self.kind if self.towers == "both" else f"{self.kind} {self.towers}"

    def chosen(self, model: nn.Module) -> set[str]:
        """Those of the kind in the chosen towers; none if there is none, whatever `train_logit_scale` says."""
        found = {name for name in self.of_kind(model) if self.towers in ("both", tower_of(name))}
        return found | loss_parameters(model) if found and self.train_logit_scale else found

    def of_kind(self, model: nn.Module) -> set[str]:
        """The names of all parameters of the kind."""
        raise NotImplementedError


def loss_parameters(model: nn.Module) -> set[str]:
    """The temperature and, for sigmoid losses, the bias of the loss."""
    return {name for name, _ in model.named_parameters() if tower_of(name) == "shared"}


def tower_parameters(model: nn.Module, tower: Literal["image", "text"]) -> set[str]:
    """All parameters of one tower, its projection among them."""
    return {name for name, _ in model.named_parameters() if tower_of(name) == tower}
