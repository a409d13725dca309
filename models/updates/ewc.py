"""Elastic weight consolidation: Kirkpatrick et al. 2016, arXiv 1612.00796, Eq. 3, kept up from step to step.

The running sum of importances is that of online EWC: Schwarz et al. 2018, arXiv 1805.06370, section 2.2. Defaults of
FoMo-in-Flux (arXiv 2408.14471): lambda 1, gamma 1, at most 50,000 samples of the update pool. As there, the Fisher
information is the mean over batches of the squared gradient of the batch loss, since a contrastive loss has no gradient
of one sample. Differences from its released code: these passes have the temperature of the training (there the
exponential is missing), take full batches and are charged once per step. Dropout is off in them, and running statistics
rest.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.phases import IMPORTANCE, phase
from models.updates.carried import Tensors, trained, zeros
from models.updates.method import Carried, Given, Method, Passes
from models.updates.quadratic import kept, quadratic_penalty


class Ewc(Method):
    """Finetune with a penalty on leaving the expert of the step before, per weight as the past needed it."""

    kind: Literal["ewc"] = "ewc"
    USES: ClassVar[frozenset[str]] = frozenset({"memory"})
    strength: float = Field(1.0, ge=0)  # of the penalty, lambda in the paper
    gamma: float = Field(1.0, ge=0, le=1)  # share of the former importance that is kept at each step
    fisher_samples: int = Field(50_000, ge=1)  # draws of a step that its importances come from

    def carry(self, model: nn.Module, given: Given) -> Carried:
        """Importance and anchor of the steps before; nothing in the first."""
        if given.memory is None or "fisher" not in given.memory.groups:
            return Carried()
        weights = trained(model)
        fisher = kept(given.memory.groups["fisher"], weights, "the Fisher information of the memory")
        return Carried(fixed={"fisher": fisher, "anchor": kept(given.memory.anchor, weights, "the memory's anchor")})

    def penalty(self, model: nn.Module, carried: Carried) -> Tensor | None:
        """lambda/2 times the weighted squared distance to the anchor; none in the first step."""
        if not carried.fixed:
            return None
        anchor, fisher = carried.fixed["anchor"], carried.fixed["fisher"]
        return self.strength / 2 * quadratic_penalty(trained(model), anchor, fisher)

    def passes(self, batch_size: int) -> int:
        """Batches it takes to see `fisher_samples` samples."""
        return -(-self.fisher_samples // batch_size)

    def remember(self, model: nn.Module, carried: Carried, passes: Passes) -> Mapping[str, Mapping[str, Tensor]]:
        """The importance of each weight that trains: gamma times the former one and what this step's data adds."""
        former, fisher = carried.fixed.get("fisher"), self._of_this_step(model, passes)
        if former is not None:
            torch._foreach_add_(list(fisher.values()), list(former.values()), alpha=self.gamma)
        return {"fisher": fisher}

    def _of_this_step(self, model: nn.Module, passes: Passes) -> Tensors:
        """The mean over batches of the squared gradient of their contrastive loss."""
        fisher = zeros(trained(model))
        count = self.passes(len(next(iter(passes.batches(1))).tokens))
        was_training = {module: module.training for module in model.modules()}
        model.eval()
        with phase(IMPORTANCE):
            for batch in passes.batches(count):
                found = passes.gradients(batch)
                gradients = [found[name] for name in fisher]
                torch._foreach_addcmul_(list(fisher.values()), gradients, gradients, value=1 / count)
        for module, training in was_training.items():
            module.training = training
        return fisher
