"""Weights, gradients and moments cut over the processes, for models whose training does not fit on one GPU (FSDP2).

Each block of a tower is whole only while it computes (Zhao et al. 2023, arXiv 2304.11277; ZeRO stage 3, Rajbhandari et
al. 2020, arXiv 1910.02054). What is stored is whole again: a step begun in shards may go on
without, or in more of them.
"""

import sys
from collections.abc import Iterator, Mapping
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.forward import embed
from models.updates.method import Method

NEEDS_NO_WEIGHTS = (
    "prepare",
    "carry",
    "optimizer",
    "loss",
    "penalty",
    "shape_gradients",
    "after_step",
    "finish",
    "remember",
)  # fmt: skip  what a method that only chooses what trains leaves as it is


def check_method(method: Method) -> None:
    """Raise ValueError for a method that computes with whole weights."""
    own = [name for name in NEEDS_NO_WEIGHTS[1:] if getattr(type(method), name) is not getattr(Method, name)]
    if own:
        raise ValueError(
            f"the method {method.name()!r} computes with whole weights ({', '.join(own)}), which no process has where "
            "training is `sharded`: train it without, or take a method that only chooses which weights train, such as "
            "`finetune`, `bitfit`, `lnfit`, `locked_image` or `locked_text`"
        )


def shard(model: nn.Module) -> nn.Module:
    """Cut the weights of `model`, which lies on its device, in place, block by block; numbers stay whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    device = next(model.parameters()).device.type
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params={each for each in model.parameters() if each.dim() == 0})
    model.embed_sharded = MethodType(embed, model)
    register_fsdp_forward_method(model, "embed_sharded")  # the weights outside the blocks are whole while it runs
    return model


def whole(value: Any) -> Any:
    """Nested mappings and lists with every tensor whole, on the host where it was in shards; all processes call it."""
    if is_cut(value):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {name: whole(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(whole, value))
    return value


def as_in(weight: Tensor, value: Any) -> Any:
    """A whole tensor cut as `weight` is; anything else as it is."""
    if is_cut(weight) and isinstance(value, Tensor) and value.shape == weight.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
    return value


def restore_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load whole weights into a model that may be in shards."""
    own = model.state_dict()
    model.load_state_dict({name: as_in(own[name], value) for name, value in state.items()})


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load whole moments into the optimizer of a model that may be in shards."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    cut = {
        place: {name: as_in(weights[place], value) for name, value in moments.items()}
        for place, moments in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": cut})


def is_cut(value: Any) -> bool:
    """Whether a value is a tensor in shards; where the class of those, seconds to import, is not known, nothing is."""
    known = sys.modules.get("torch.distributed.tensor")
    return known is not None and isinstance(value, known.DTensor)


def clip(parameters: list[nn.Parameter], longest: float) -> Tensor:
    """As `clip_grad_norm_`, of gradients some of which are in shards; returns the norm of all before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    cut = [gradient.to_local() for gradient in gradients if is_cut(gradient)]
    own = [gradient for gradient in gradients if not is_cut(gradient)]
    square = torch.stack([part.norm().square() for part in cut]).sum()
    dist.all_reduce(square)
    if own:
        square = square + torch.stack([gradient.norm().square() for gradient in own]).sum()
    norm = square.sqrt()
    torch._foreach_mul_([*cut, *own], (longest / (norm + 1e-6)).clamp(max=1.0))
    return norm


def _blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The repeated layers of the towers: outermost lists of modules of one class."""
    for child in model.children():
        members = list(child.children()) if isinstance(child, nn.ModuleList | nn.Sequential) else []
        if len(members) > 1 and len({type(member) for member in members}) == 1:
            yield from (member for member in members if any(True for _ in member.parameters()))
        else:
            yield from _blocks(child)
