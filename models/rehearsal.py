"""Runs the training of one step for its cost alone: the loop's own iteration on tensors without values, or on a GPU.

Everything is as in a later step of a stream: the memory of the step before is there, and so are the optimizer's
moments. Texts count at their full length, which the loop trims where that changes nothing.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from models import clip
from models.fake_cuda import CudaMeter, normalise_in_fp32
from models.forward import embed
from models.minibatch import Minibatch
from models.phases import IMPORTANCE
from models.training_step import Training, contrastive_gradients, set_up, training_step
from models.updates import UpdateSpec
from models.updates.carried import Given, Moment, Passes, Tensors, clones, frozen_copy
from models.updates.memory import Memory
from models.weights import mapped


class Rehearsed(NamedTuple):
    """What the rehearsal of a step found: FLOPs by phase, bytes, numbers of parameters."""

    iteration: Mapping[str, float]
    once: Mapping[str, float]  # before the first iteration
    one_pass: float  # of a forward and backward pass after the training
    peak_bytes: int  # of tensors, in an iteration or what comes after the last
    parameters: int
    trainable_parameters: int


def rehearse(backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int) -> Rehearsed:
    """A step of `spec` on tensors without values, whose bytes are those of a GPU; no device, no weights.

    `pretraining`: how many rows of a batch come from the pretraining pool.
    """
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")  # by copying a module
        stage = _Stage(backbone, spec, batch_size, pretraining, torch.device("cpu"))
        kept = stage.memory_of_a_step()
        with CudaMeter() as meter:
            run = stage.set_up(kept)
            del kept
            once = meter.take()
            stage.start_optimizer(run)
            meter.take()
            meter.forget_peak()
            stage.iterate(run)
            iteration = meter.take()
            stage.passes = 0
            stage.remember(run)
            one_pass = meter.take().get(IMPORTANCE, 0.0) / max(1, stage.passes)
            peak = meter.peak_bytes
    return Rehearsed(iteration, once, one_pass, peak, stage.parameters, sum(p.numel() for p in run.parameters))


def measure_peak(backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int) -> int:
    """Peak bytes of tensors on the GPU of this machine, by running a step on data without meaning.

    Raises ValueError where there is no GPU.
    """
    if not torch.cuda.is_available():
        raise ValueError("no CUDA device here to measure peak memory on; leave `measured` out to have it predicted")
    stage = _Stage(backbone, spec, batch_size, pretraining, torch.device("cuda"))
    run = stage.set_up(stage.memory_of_a_step())
    stage.start_optimizer(run)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    stage.iterate(run)
    stage.remember(run)
    return torch.cuda.max_memory_allocated()


class _Stage:
    """Makes what a step needs, with values nobody should rely on."""

    def __init__(self, backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int, device: torch.device):
        self._backbone, self._spec, self._device = backbone, spec, device
        self._size, self._context = clip.preprocessing(backbone).size, clip.context_length(backbone)
        self._rows, self._pretraining = batch_size, pretraining
        self.parameters = self.passes = 0

    def set_up(self, kept: Memory | None) -> Training:
        """The moving parts of a step that was given `kept`."""
        method = self._spec.method
        model = self._model(lambda bare: method.prepare(bare.train(), seed=0))
        teacher = self._model(frozen_copy) if "pretrained" in method.USES else None
        return set_up(model, self._spec, self._given(teacher, kept))

    def memory_of_a_step(self) -> Memory | None:
        """What the method keeps of a first step; none if later ones do not read it."""
        if "memory" not in self._spec.method.USES:
            return None
        groups = self.remember(self.set_up(None))
        return None if groups is None else Memory(groups, self._model(nn.Module.eval).state_dict())

    def start_optimizer(self, run: Training) -> None:
        """Let the optimizer make its moments, as its first step does."""
        for parameter in run.parameters:
            parameter.grad = torch.zeros_like(parameter)
        run.optimizer.found_inf = run.stopped
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)

    def iterate(self, run: Training) -> None:
        """One iteration of the loop."""
        training_step(run, self._batch(), Moment(0, 1, self._spec.lr))

    def remember(self, run: Training) -> Mapping[str, Mapping[str, Tensor]] | None:
        """What the method keeps for later steps, from passes over one batch."""
        batch = self._batch()

        def gradients(rows: Minibatch) -> Tensors:
            self.passes += 1
            return contrastive_gradients(run, rows)

        passes = Passes(lambda count: iter([batch]), gradients)
        return self._spec.method.remember(run.model, run.carried, passes)

    def _model(self, prepare: Callable[[nn.Module], nn.Module]) -> nn.Module:
        """What `prepare` makes of the backbone: on the meta device at first, where nothing is computed or drawn."""
        with unset_fake_temporarily(), torch.device("meta"), _NothingDrawn():
            model = clip.build_empty(self._backbone, "meta")
            self.parameters = sum(parameter.numel() for parameter in model.parameters())
            model = prepare(model)
        model = _allocated(model, self._device)
        return normalise_in_fp32(model) if self._device.type == "cpu" else model

    def _given(self, teacher: nn.Module | None, kept: Memory | None) -> Given:
        part = -(-self._rows // self._spec.accumulate) if self._spec.accumulate > 1 else None
        if kept is not None:  # a step reads it from the disk: it begins to take memory now
            groups = {name: clones(tensors) for name, tensors in kept.groups.items()}
            kept = Memory(groups, mapped(torch.clone, kept.anchor))
        return Given(
            pretrained=teacher,
            memory=kept,
            reference_texts=lambda most: torch.zeros(most, self._context, dtype=torch.int64, device=self._device),
            embed=lambda model, images, tokens: embed(model, images, tokens, self._spec.precision, part),
            seed=0,
        )

    def _batch(self) -> Minibatch:
        images = torch.zeros(self._rows, 3, self._size, self._size, device=self._device)
        tokens = torch.zeros(self._rows, self._context, dtype=torch.int64, device=self._device)
        concepts = torch.zeros(self._rows, dtype=torch.int64, device=self._device)
        return Minibatch(images, tokens, concepts, self._pretraining)


class _NothingDrawn(TorchFunctionMode):
    """Random tensors are meta ones too, wherever they were to be drawn."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in (torch.rand, torch.randn):
            kwargs = {name: value for name, value in kwargs.items() if name != "generator"}
            return torch.empty(*args, **{**kwargs, "device": "meta"})
        return function(*args, **kwargs)


def _allocated(model: nn.Module, device: torch.device) -> nn.Module:
    """`model` in place with its tensors, which lie on the meta device, as ones of `device`; equal ones stay one."""
    made: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is not None:
                    own[name] = made.setdefault(tensor, _like(tensor, device))
    return model


def _like(tensor: Tensor, device: torch.device) -> Tensor:
    empty = torch.zeros(tensor.shape, dtype=tensor.dtype, device=device)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
