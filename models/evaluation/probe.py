"""Linear probe: a linear classifier on frozen image features (Radford et al. 2021, arXiv 2103.00020, section 3.2).

Unlike there, features are unit vectors, as everywhere here, and `l2` is chosen among few values, not by a search.
"""

from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from data_catalog.refs import Spec
from data_catalog.seeds import rng

_ROWS = 8192  # whose logits exist at a time


class Probe(Spec):
    """Multinomial logistic regression on unit features of the training images, fitted by L-BFGS.

    Of several `l2` the one is taken that answers best on the held-out share of the training images, the first of
    equals; then it is fitted to all of them.
    """

    l2: tuple[Annotated[float, Field(gt=0)], ...] = Field((1e-6, 1e-5, 1e-4, 1e-3, 1e-2), min_length=1)  # per image
    held_out: float = Field(0.2, gt=0, lt=1)  # share of the training images that chooses among several `l2`
    iterations: int = Field(200, ge=1)  # of L-BFGS at most; the paper allows 1,000
    seed: int = 0  # of the held-out share


class Linear(NamedTuple):
    """A fitted classifier."""

    weight: Tensor  # [classes, dim]
    bias: Tensor  # [classes]

    def hits(self, features: Tensor, targets: Tensor) -> Tensor:
        """Which of the `features` [n, dim] it takes for their `targets` [n]: bool [n]."""
        parts = [F.linear(rows, self.weight, self.bias).argmax(1) for rows in features.split(_ROWS)]
        return torch.cat(parts) == targets


def probe_hits(
    probe: Probe, training: Tensor, training_targets: Tensor, features: Tensor, targets: Tensor, classes: int
) -> Tensor:
    """Which of `features` [n, dim] the probe takes for their own class, bool [n], fitted to `training` [m, dim].

    Raises ValueError where there are fewer than two training images.
    """
    if len(training) < 2:
        raise ValueError(f"a linear probe of {len(training)} training images, expected at least 2: leave the probe out")
    l2 = probe.l2[0] if len(probe.l2) == 1 else chosen_l2(probe, training, training_targets, classes)
    return fitted(training, training_targets, classes, l2, probe.iterations).hits(features, targets)


def chosen_l2(probe: Probe, features: Tensor, targets: Tensor, classes: int) -> float:
    """The candidate with the most hits on held-out images, the first of equals."""
    order = torch.from_numpy(rng(probe.seed, "held out").permutation(len(features))).to(features.device)
    count = min(max(1, round(probe.held_out * len(features))), len(features) - 1)
    apart, rest = order[:count], order[count:]
    hits = {}
    for l2 in probe.l2:
        linear = fitted(features[rest], targets[rest], classes, l2, probe.iterations)
        hits[l2] = int(linear.hits(features[apart], targets[apart]).sum())
    return max(hits, key=hits.get)


def fitted(features: Tensor, targets: Tensor, classes: int, l2: float, iterations: int) -> Linear:
    """The minimum of mean cross-entropy + l2/2 |weight|^2, started at zero."""
    weight = features.new_zeros(classes, features.shape[1])
    bias = features.new_zeros(classes)
    search = torch.optim.LBFGS([weight, bias], max_iter=iterations, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def loss_with_gradient() -> Tensor:
        loss, weight.grad, bias.grad = _loss(weight, bias, features, targets, l2)
        return loss

    search.step(loss_with_gradient)
    return Linear(weight=weight, bias=bias)


def _loss(weight: Tensor, bias: Tensor, features: Tensor, targets: Tensor, l2: float) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients in weight and bias, part by part: logits of all rows would not fit."""
    loss, slope, shift = l2 / 2 * weight.square().sum(), l2 * weight, torch.zeros_like(bias)
    for rows, own in zip(features.split(_ROWS), targets.split(_ROWS), strict=True):
        logits = F.linear(rows, weight, bias).log_softmax(1)
        loss = loss - logits.gather(1, own[:, None]).sum() / len(features)
        apart = logits.exp_().scatter_add_(1, own[:, None], -torch.ones_like(own[:, None], dtype=logits.dtype))
        slope = slope + apart.T @ rows / len(features)
        shift = shift + apart.sum(0) / len(features)
    return loss, slope, shift
