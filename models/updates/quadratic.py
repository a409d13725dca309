"""The quadratic penalty on weights that EWC, SI and L2-SP share, its value and gradient computed for all at once."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from models.updates.carried import Tensors


def quadratic_penalty(weights: Mapping[str, Tensor], anchor: Tensors, importance: Tensors | None = None) -> Tensor:
    """Sum over i of importance_i (weight_i - anchor_i)^2, fp32 []; without `importance` each counts once.

    All mappings have the names of `weights`, among others; gradients reach `weights` only. Importances are at least 0.
    """
    anchors = [anchor[name] for name in weights]
    factors = [importance[name] for name in weights] if importance is not None else []
    return _Quadratic.apply(len(weights), *weights.values(), *anchors, *factors)


def kept(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor], what: str) -> Tensors:
    """What `tensors`, named `what`, holds for each of `weights`, on its device.

    Raises ValueError if it is of another model.
    """
    missing = [name for name in weights if name not in tensors or tensors[name].shape != weights[name].shape]
    if missing:
        raise ValueError(
            f"{what} has nothing of the right shape for {len(missing)} of {len(weights)} parameters that train, first "
            f"{missing[0]!r}; give one of the same backbone and the same settings"
        )
    return {name: tensors[name].to(weight.device) for name, weight in weights.items()}


class _Quadratic(torch.autograd.Function):
    """Keeps no difference between the passes: a second subtraction costs less than the memory of all weights."""

    @staticmethod
    def forward(ctx, count: int, *tensors: Tensor) -> Tensor:
        ctx.count = count
        ctx.save_for_backward(*tensors)
        terms, factors = _differences(tensors, count)
        torch._foreach_mul_(terms, terms)
        if factors:
            torch._foreach_mul_(terms, factors)
        return torch.stack(torch._foreach_norm(terms, 1)).sum()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        terms, factors = _differences(ctx.saved_tensors, ctx.count)
        if factors:
            torch._foreach_mul_(terms, factors)
        torch._foreach_mul_(terms, 2 * gradient)
        return None, *terms, *[None] * (len(ctx.saved_tensors) - ctx.count)


def _differences(tensors: Sequence[Tensor], count: int) -> tuple[list[Tensor], Sequence[Tensor]]:
    differences = torch._foreach_sub(list(tensors[:count]), list(tensors[count : 2 * count]))
    return list(differences), tensors[2 * count :]
