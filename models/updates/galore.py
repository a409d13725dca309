"""GaLore: Adam in a low-rank subspace of the gradient; Zhao et al. 2024, arXiv 2403.03507, Algorithm 2.

Defaults of FoMo-in-Flux (arXiv 2408.14471): rank 8 (16 in its figure), a new subspace every 200 iterations, scale 2,
projection `std`: of the shorter side. Every matrix of the model is projected, embeddings and packed attention inputs
among them; vectors and convolutions are not. The arithmetic is that of the released optimizer: moments stay as they are
when the subspace changes, epsilon 1e-6 is added before the bias is corrected, weights decay after they have moved.

Our choices: the singular vectors come from the eigenvectors of the smaller Gram matrix, which is many times faster than
a decomposition of the gradient, and each has its largest entry positive, so that the moments meet a basis that depends
on the gradient alone.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from models.updates.method import Method


class Galore(Method):
    """Train everything, with moments only of what lies in a low-rank subspace of each matrix's gradient."""

    kind: Literal["galore"] = "galore"
    rank: int = Field(8, ge=1)  # of the subspace of each gradient
    refresh_every: int = Field(200, ge=1)  # iterations between two choices of the subspaces
    scale: float = Field(2.0, gt=0)  # alpha in the paper: factor on what the subspace says
    epsilon: float = Field(1e-6, gt=0)  # of AdamW in the subspaces

    def name(self) -> str:
        """How tables call the method."""
        return f"{self.kind} r={self.rank}"

    def optimizer(self, groups: list[dict], betas: tuple[float, float], weight_decay: float) -> "GaloreAdamW":
        """AdamW in subspaces for matrices, as usual for the rest."""
        own = {"rank": self.rank, "refresh_every": self.refresh_every, "gain": self.scale, "epsilon": self.epsilon}
        return GaloreAdamW(groups, {"lr": 0.0, "betas": betas, "weight_decay": weight_decay, **own})


class GaloreAdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay whose moments of a matrix are those of its projected gradient.

    Leaves weights and state as they are where `found_inf` is not 0, and asks the device about it only when a subspace
    is due. Groups have `lr`, `betas`, `weight_decay`, `rank`, `refresh_every`, `gain` and `epsilon`.
    """

    _step_supports_amp_scaling = True  # a gradient scaler sets `found_inf` too

    def __init__(self, groups: list[dict], defaults: dict):
        super().__init__(groups, defaults)
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move the weights by their gradients; raises ValueError if a scaler has not unscaled them."""
        if getattr(self, "grad_scale", None) is not None:
            raise ValueError("the gradients are still scaled: call `scaler.unscale_(optimizer)` before `scaler.step`")
        found_inf = getattr(self, "found_inf", None)
        parts = [part for group in self.param_groups for part in _parts(group)]
        due = [(weight, group) for weights, group in parts for weight in weights if self._is_due(weight, group)]
        if due and found_inf is not None and not _reads_zero(found_inf):
            return  # a gradient that is not finite has no subspace: it stays due
        for weight, group in due:
            self._begin(weight, group)
        for weights, group in parts:
            self._move(weights, group, None if found_inf is None else found_inf == 0)

    def _is_due(self, weight: Tensor, group: dict) -> bool:
        state = self.state[weight]
        return not state or (weight.ndim == 2 and state["age"] >= group["refresh_every"])

    def _begin(self, weight: Tensor, group: dict) -> None:
        """Choose the subspace of a matrix; make the moments if there are none."""
        state = self.state[weight]
        if weight.ndim == 2:
            state["basis"], state["age"] = leading_directions(weight.grad, group["rank"]), 0
        if "mean" not in state:
            projected = _projected(weight.grad, state.get("basis"))
            state["mean"], state["square"] = torch.zeros_like(projected), torch.zeros_like(projected)
            state["updates"] = torch.zeros((), device=weight.device)

    def _move(self, weights: list[Tensor], group: dict, good: Tensor | None) -> None:
        """One update of matrices or of other weights; `good` says on the device whether it may happen."""
        states = [self.state[weight] for weight in weights]
        gradients = [_projected(weight.grad, state.get("basis")) for weight, state in zip(weights, states, strict=True)]
        done = torch.ones((), device=weights[0].device)
        if good is not None:
            gradients = [torch.where(good, gradient, 0.0) for gradient in gradients]
            done = good.to(done)
        directions = _directions(states, gradients, group, done)
        for weight, state, direction in zip(weights, states, directions, strict=True):
            _add(weight, direction, state.get("basis"))
            if "age" in state:
                state["age"] += 1
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - done * (group["lr"] * group["weight_decay"]))


def _parts(group: dict) -> list[tuple[list[Tensor], dict]]:
    """The weights of a group that have a gradient: matrices, and others, whose projection is the identity."""
    with_gradient = [weight for weight in group["params"] if weight.grad is not None]
    matrices = [weight for weight in with_gradient if weight.ndim == 2]
    others = [weight for weight in with_gradient if weight.ndim != 2]
    plain = {**group, "gain": 1.0}
    return [(weights, own) for weights, own in ((matrices, group), (others, plain)) if weights]


def _directions(states: list[dict], gradients: list[Tensor], group: dict, done: Tensor) -> list[Tensor]:
    """What is added to each weight, in its subspace; the moments follow `gradients` where `done` is 1, not 0."""
    means, squares, updates = ([state[name] for state in states] for name in ("mean", "square", "updates"))
    torch._foreach_add_(updates, [done] * len(updates))
    for moments, values, beta in (
        (means, gradients, group["betas"][0]),
        (squares, torch._foreach_mul(gradients, gradients), group["betas"][1]),
    ):
        torch._foreach_mul_(moments, 1 - done * (1 - beta))
        torch._foreach_add_(moments, torch._foreach_mul(values, done * (1 - beta)))
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, group["epsilon"])
    directions = torch._foreach_div(means, roots)
    step = _unbiased(updates[0], group["betas"]) * done * (-group["lr"] * group["gain"])  # all counts are the same
    torch._foreach_mul_(directions, step)
    return list(directions)


def leading_directions(matrix: Tensor, rank: int) -> Tensor:
    """The first right singular vectors of a tall `matrix` [rank, columns], or left ones of a wide one [rows, rank].

    Orthonormal, also where the matrix has a lower rank; each with its largest entry positive.
    """
    is_tall = matrix.shape[0] >= matrix.shape[1]
    scaled = matrix / matrix.abs().max().clamp(min=torch.finfo(matrix.dtype).tiny)  # squares of gradients underflow
    gram = scaled.T @ scaled if is_tall else scaled @ scaled.T
    vectors = torch.linalg.eigh(gram).eigenvectors[:, -rank:].flip(1)  # [side, rank], the largest first
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    vectors = vectors * torch.where(largest < 0, -1.0, 1.0)
    return vectors.T.contiguous() if is_tall else vectors.contiguous()


def _projected(gradient: Tensor, basis: Tensor | None) -> Tensor:
    if basis is None:
        return gradient
    return gradient @ basis.T if gradient.shape[0] >= gradient.shape[1] else basis.T @ gradient


def _add(weight: Tensor, direction: Tensor, basis: Tensor | None) -> None:
    """Add a direction to a weight in place; that of a matrix never exists in its full size."""
    if basis is None:
        weight.add_(direction)
    elif weight.shape[0] >= weight.shape[1]:
        weight.addmm_(direction, basis)
    else:
        weight.addmm_(basis, direction)


def _unbiased(updates: Tensor, betas: tuple[float, float]) -> Tensor:
    """Adam's correction for moments that began at 0, finite also before the first update."""
    count = updates.clamp(min=1)
    return (1 - betas[1] ** count).sqrt() / (1 - betas[0] ** count)


def _reads_zero(flag: Tensor) -> bool:
    """Reads the device; of fake tensors nothing can be read, and their cost is that of a good iteration."""
    return isinstance(flag, FakeTensor) or not bool(flag)
