"""Prices a step from its rehearsal: what the training loop would compute and hold, without a device."""

from functools import lru_cache

from data_catalog.mixture import Mixture, split_batch
from models.fake_cuda import OVERHEAD
from models.phases import IMPORTANCE, TEACHER
from models.prices import StepCost
from models.rehearsal import Rehearsed, measure_peak, rehearse
from models.updates import AnyMethod, UpdateSpec
from models.updates.finetune import Finetune


def cost(backbone: str, method: AnyMethod, batch_size: int) -> StepCost:
    """The cost of a step of `method` at `batch_size`, with the settings and the mixture of the paper."""
    return price(backbone, UpdateSpec(method=method), batch_size, split_batch(batch_size, Mixture(), 1)["pretraining"])


def price(backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int) -> StepCost:
    """The cost of a step as `spec` says, with so many rows of a batch from the pretraining pool.

    The multiplier is relative to full finetuning with the settings of the paper, whatever those of `spec` are.
    """
    found = _rehearsed(backbone, what_costs(spec), batch_size, pretraining)
    return price_of(spec, batch_size, found, _rehearsed(backbone, full_finetuning(), batch_size, pretraining))


def price_of(spec: UpdateSpec, batch_size: int, found: Rehearsed, full: Rehearsed) -> StepCost:
    """The cost of a step that was rehearsed, relative to full finetuning."""
    once = {name: flops / 1e9 for name, flops in found.once.items()}
    if passes := spec.method.passes(batch_size):
        once[IMPORTANCE] = once.get(IMPORTANCE, 0) + passes * found.one_pass / 1e9
    return StepCost(
        gflops=sum(found.iteration.values()) / 1e9,
        memory_multiplier=_multiplier(found.peak_bytes, full.peak_bytes),
        teacher_gflops=found.iteration.get(TEACHER, 0) / 1e9,
        once={name: gflops for name, gflops in once.items() if gflops},
        passes=passes,
        peak_gib=_gib(found.peak_bytes),
        parameters=found.parameters,
        trainable_parameters=found.trainable_parameters,
    )


def measured_price(backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int) -> StepCost:
    """`price` with the memory that the GPU of this machine measures; raises ValueError where there is none."""
    found = _measured(backbone, what_costs(spec), batch_size, pretraining)
    full = _measured(backbone, full_finetuning(), batch_size, pretraining)
    memory = {"memory_multiplier": _multiplier(found, full), "peak_gib": _gib(found)}
    return price(backbone, spec, batch_size, pretraining).model_copy(update=memory)


def full_finetuning() -> UpdateSpec:
    """What memory is relative to."""
    return what_costs(UpdateSpec(method=Finetune()))


def what_costs(spec: UpdateSpec) -> UpdateSpec:
    """Of `spec` what its cost depends on, as it is on a GPU; rates and schedules are those of the default."""
    return UpdateSpec(
        method=spec.method,
        precision="fp32" if spec.precision in ("fp32", "fp64") else "bf16",  # fp16 has the same sizes
        accumulate=spec.accumulate,
        gradient_checkpointing=spec.gradient_checkpointing,
        patch_dropout=spec.patch_dropout,
        ema=0.99 if spec.ema else None,
    )


@lru_cache(maxsize=256)
def _rehearsed(backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int) -> Rehearsed:
    return rehearse(backbone, spec, batch_size, pretraining)


@lru_cache(maxsize=256)
def _measured(backbone: str, spec: UpdateSpec, batch_size: int, pretraining: int) -> int:
    return measure_peak(backbone, spec, batch_size, pretraining)


def _multiplier(peak_bytes: int, full: int) -> float:
    return round((peak_bytes + OVERHEAD) / (full + OVERHEAD), 4)


def _gib(peak_bytes: int) -> float:
    return round((peak_bytes + OVERHEAD) / 2**30, 3)
