"""One iteration of training, for every method: what the loop runs and the budget prices.

Loss, backward pass, one clip, optimizer step; nothing here waits for the device.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models import clip, sharding
from models.forward import embed_by, features_of, parts_of, with_temperature
from models.losses import contrastive_loss
from models.minibatch import Features, Minibatch
from models.parallel import ALONE, GradientMean, Ranks
from models.parameter_groups import parameter_groups
from models.sharding import is_cut
from models.updates import UpdateSpec
from models.updates.carried import Carried, Given, Moment, Tensors, clones, trained
from models.updates.finetune import Finetune

MAX_SOFTMAX_SCALE = 100.0  # Radford et al. 2021, arXiv 2103.00020, section 2.5


@dataclass
class Training:
    """The moving parts of one step."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    carried: Carried
    spec: UpdateSpec
    stopped: Tensor  # [], fp32: 1 from the first loss or gradient on that is not finite; weights no longer move
    scaler: torch.amp.GradScaler | None = None
    mean: Tensors | None = None  # running mean of the weights that train
    statistics: Sequence[Tensor] = ()  # running ones of batch norms, which every forward pass changes in place
    ranks: Ranks = ALONE
    # of what is not in shards, whose gradients FSDP averages
    gradient_mean: GradientMean = field(default_factory=lambda: GradientMean(ALONE, ()))

    @cached_property
    def is_sharded(self) -> bool:
        """Whether no process has the whole model."""
        return any(map(is_cut, self.parameters))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the optimizer moves."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


class Outcome(NamedTuple):
    """What came of one iteration, on the device."""

    loss: Tensor  # contrastive
    penalty: Tensor  # what the method added to it
    gradient_norm: Tensor  # before clipping


def set_up(model: nn.Module, spec: UpdateSpec, given: Given, ranks: Ranks = ALONE) -> Training:
    """Everything an iteration needs around a `model` that `spec.method` has prepared, on its device."""
    if spec.patch_dropout:
        clip.set_patch_dropout(model, spec.patch_dropout)
    if spec.gradient_checkpointing:
        model.set_grad_checkpointing(True)
    _still_fixed_statistics(model)
    _check_parts(model, spec, ranks)
    if spec.compile:
        for tower in _towers(model):
            tower.compile(dynamic=False)  # in place, so that parameters keep their names
    carried = spec.method.carry(model, given)
    groups = [{**group, "lr": spec.lr * group["scale"]} for group in _groups(model, spec)]
    optimizer = spec.method.optimizer(groups, spec.betas, spec.weight_decay)
    device = next(model.parameters()).device
    scaler = torch.amp.GradScaler(device.type) if spec.precision == "fp16" else None
    mean = clones(trained(model)) if spec.ema else None
    statistics = [buffer for module in _moving_norms(model) for buffer in module.buffers(recurse=False)]
    uncut = [weight for group in optimizer.param_groups for weight in group["params"] if not is_cut(weight)]
    return Training(model, optimizer, carried, spec, torch.zeros((), device=device), scaler, mean, statistics,
                    ranks, GradientMean(ranks, uncut))  # fmt: skip


def training_step(run: Training, batch: Minibatch, moment: Moment) -> Outcome:
    """One iteration on `batch` at the learning rate of `moment`."""
    spec, model = run.spec, run.model
    for group in run.optimizer.param_groups:
        group["lr"] = moment.lr * group["scale"]
    run.optimizer.zero_grad(set_to_none=True)
    statistics = [buffer.clone() for buffer in run.statistics]
    backward = _whole if spec.accumulate == 1 else _in_parts
    loss, penalty = backward(run, batch)
    loss, penalty = run.ranks.mean(loss, penalty)
    if run.scaler is not None:
        run.scaler.unscale_(run.optimizer)
    spec.method.shape_gradients(model, run.carried)
    clip_norm = sharding.clip if run.is_sharded else partial(nn.utils.clip_grad_norm_, foreach=True)
    norm = clip_norm(run.parameters, spec.clip_norm)
    skipped = _move(run, loss + penalty, norm)
    for now, before in zip(run.statistics, statistics, strict=True):
        now.copy_(torch.where(skipped > 0, before, now))
    _clamp(model, spec)
    spec.method.after_step(model, run.carried, moment)
    if run.mean is not None:
        now, share = trained(model), (1 - spec.ema) * (skipped == 0)
        torch._foreach_lerp_(
            list(run.mean.values()), [now[name].detach() for name in run.mean], [share] * len(run.mean)
        )
    return Outcome(loss, penalty, norm)


def contrastive_gradients(run: Training, batch: Minibatch) -> Tensors:
    """Gradients of the contrastive loss alone, by name, in the precision and the parts of the training; nothing moves.

    Under loss scaling a scale that is too large is halved; raises FloatingPointError if no scale gives finite ones.
    """
    alone = replace(run, spec=run.spec.model_copy(update={"method": Finetune()}))
    backward = _whole if run.spec.accumulate == 1 else _in_parts
    while True:
        run.optimizer.zero_grad(set_to_none=True)
        backward(alone, batch)
        weights = trained(run.model)
        found = {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in weights.items()}
        run.optimizer.zero_grad(set_to_none=True)
        if run.scaler is None:
            return found
        scale = run.scaler.get_scale()
        torch._foreach_div_(list(found.values()), scale)
        if all(map(math.isfinite, torch._foreach_norm(list(found.values()), math.inf))):
            return found
        if scale < 1:
            raise FloatingPointError("a gradient after the training is not finite at any scale; set `precision: fp32`")
        run.scaler.update(scale / 2)


def contrast(spec: UpdateSpec, ranks: Ranks = ALONE):
    """The contrastive loss of a spec, as methods are given it."""

    def loss(features: Features, concepts: Tensor) -> Tensor:
        return contrastive_loss(features, concepts, spec.label_smoothing, spec.multi_positive, ranks)

    return loss


def _whole(run: Training, batch: Minibatch) -> tuple[Tensor, Tensor]:
    features = features_of(run.model, batch, run.spec.precision)
    with run.gradient_mean.of_this_pass():
        return _backward(run, features, batch)


def _in_parts(run: Training, batch: Minibatch) -> tuple[Tensor, Tensor]:
    """The same gradients, one part of the batch in memory at a time (GradCache, Gao et al. 2021, arXiv 2101.06983).

    The features of all parts first, without gradient; then the loss of the whole batch down to the features; then each
    part again, with the same random numbers, from its features down to the weights.
    """
    random = _random_state(batch.images.device)
    with torch.no_grad():
        embedded = [_embed_rows(run, batch, part) for part in parts_of(len(batch.tokens), run.spec.accumulate)]
    image, text = (torch.cat(tensors).requires_grad_() for tensors in zip(*embedded, strict=True))
    losses = _backward(run, with_temperature(run.model, *run.ranks.everywhere(image, text)), batch)
    after = _random_state(batch.images.device)
    _set_random_state(random)
    for number, part in enumerate(parts_of(len(batch.tokens), run.spec.accumulate), start=1):
        pairs = zip(_embed_rows(run, batch, part), (image.grad[part], text.grad[part]), strict=True)
        pairs = [(features, gradient) for features, gradient in pairs if features.requires_grad]
        with run.gradient_mean.of_this_pass() if number == run.spec.accumulate else nullcontext():
            torch.autograd.backward([features for features, _ in pairs], [gradient for _, gradient in pairs])
    _set_random_state(after)
    return losses


def _backward(run: Training, features: Features, batch: Minibatch) -> tuple[Tensor, Tensor]:
    loss, penalty = run.spec.method.loss(features, batch, run.model, run.carried, contrast(run.spec, run.ranks))
    total = loss if penalty is None else loss + penalty
    (total if run.scaler is None else run.scaler.scale(total)).backward()
    return loss.detach(), torch.zeros_like(loss) if penalty is None else penalty.detach()


def _embed_rows(run: Training, batch: Minibatch, part: slice) -> tuple[Tensor, Tensor]:
    return embed_by(run.model, batch.images[part], batch.tokens[part], run.spec.precision)


def _move(run: Training, total: Tensor, norm: Tensor) -> Tensor:
    """The optimizer step, left out where something is not finite: from then on, or for fp16 just there.

    Returns whether it was left out: a number on the device that is 0 if not.
    """
    odd = ~torch.isfinite(total)
    if run.scaler is None:
        odd = odd | ~torch.isfinite(norm)
    run.stopped = torch.maximum(run.stopped, odd.to(run.stopped.dtype))
    skipped = run.stopped if run.scaler is None else torch.maximum(run.stopped, (~torch.isfinite(norm)).float())
    if run.scaler is None:
        run.optimizer.found_inf = skipped
        run.optimizer.step()
    else:
        run.scaler.step(run.optimizer)
        run.scaler.update()
    if run.carried.running or run.carried.moving is not None:  # what follows the gradients must not follow these
        for parameter in run.parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(skipped > 0, torch.zeros_like(parameter.grad), parameter.grad)
    return skipped


def _clamp(model: nn.Module, spec: UpdateSpec) -> None:
    highest = spec.max_logit_scale
    if highest == "auto":
        highest = MAX_SOFTMAX_SCALE if getattr(model, "logit_bias", None) is None else None
    if highest is not None and model.logit_scale.requires_grad:
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(highest))


def _towers(model: nn.Module) -> list[nn.Module]:
    return [model.visual, getattr(model, "text", model).transformer]  # what is called for trimmed texts too


def _groups(model: nn.Module, spec: UpdateSpec) -> list[dict]:
    groups = parameter_groups(model, spec.tower_lr, spec.layer_decay)
    if not groups:
        raise ValueError(f"the method {spec.method.name()!r} leaves no parameter of this model to train")
    return groups


def _moving_norms(model: nn.Module) -> list[nn.Module]:
    return [
        module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]


def _still_fixed_statistics(model: nn.Module) -> None:
    """Batch norms whose weights are fixed run as in an evaluation: their statistics are weights too."""
    for module in _moving_norms(model):
        if not any(parameter.requires_grad for parameter in module.parameters(recurse=False)):
            module.training = False


def _check_parts(model: nn.Module, spec: UpdateSpec, ranks: Ranks) -> None:
    if (spec.accumulate > 1 or ranks.size > 1) and _moving_norms(model):
        cut = f"`accumulate` is {spec.accumulate}" if spec.accumulate > 1 else f"{ranks.size} processes train"
        raise ValueError(
            f"{cut}, but this model normalises over its batch, so parts of one do not give the loss of the whole; set "
            "it to 1 or freeze the image tower"
        )


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
