"""What a checkpoint's own data says about its weights, for merges that weigh them by it: one pass over its samples.

`fisher`: the diagonal Fisher information of Matena and Raffel 2021, arXiv 2111.09832, section 3, as EWC takes it: the
mean over batches of the squared gradient of the batch's contrastive loss, since that loss has none of one sample.
`gram`: the mean over rows of the outer product of the inputs of every Linear, of Jin et al. 2022, arXiv 2212.09849,
section 3; a mean where the paper has a sum, so that how many samples are seen does not weigh experts. Rows of padding
behind short texts are inputs like others. Both are sums over data, so those of a merge are the sum of its experts'.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from data_catalog.refs import Ref
from data_catalog.store import locate, writing
from data_catalog.stream import StepPlan
from models import clip, threads
from models.attention import SplitAttention, SplitProjection, unpack_attention
from models.batches import StepBatches
from models.checkpoints import CheckpointRef
from models.forward import can_trim, embed
from models.minibatch import Minibatch
from models.training_loop import minibatch_of
from models.training_step import Training, contrastive_gradients, set_up
from models.updates import UpdateSpec, memory
from models.updates.carried import Carried, Given, Passes
from models.updates.ewc import Ewc
from models.updates.memory import MemoryRef
from models.weights import StoredWeights, Weights, mapped, write_safetensors

Kind = Literal["fisher", "gram"]


class StatisticsRef(Ref):
    """Stored statistics; the digest names a safetensors file under names of the checkpoint's tensors, not all of them.

    `fisher`: a tensor like that of the checkpoint; `gram`: [in, in] of a weight [out, in].
    """

    kind: Kind
    checkpoint: CheckpointRef


def what_measures(spec: UpdateSpec) -> UpdateSpec:
    """Of `spec` what statistics depend on, so that other rates and methods find them in the cache."""
    return UpdateSpec(
        label_smoothing=spec.label_smoothing,
        multi_positive=spec.multi_positive,
        precision=spec.precision,
        accumulate=spec.accumulate,
        gradient_checkpointing=spec.gradient_checkpointing,
        on_damaged=spec.on_damaged,
    )


def collect(
    kind: Kind, checkpoint: CheckpointRef, data: StepPlan, spec: UpdateSpec, samples: int, seed: int
) -> StatisticsRef:
    """Take the statistics of a checkpoint on at least `samples` draws of the step's update pool, and store them.

    Of `spec` only what `what_measures` names matters. Batches are full ones, from the first draw again where the pool
    has fewer. Raises ValueError for damaged images that shall not be replaced, or a model without any Linear.
    """
    if samples < 1:
        raise ValueError(f"statistics of {samples} samples, expected 1 or more")
    spec = what_measures(spec)
    model = clip.build(checkpoint)
    threads.fit_to(model)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    tokenize, size = clip.tokenizer(checkpoint.backbone), clip.preprocessing(checkpoint.backbone).size
    batches = StepBatches(data, size, tokenize, seed, spec.on_damaged)
    seen = partial(_minibatches, model, batches, checkpoint.backbone)
    if kind == "fisher":
        given = Given(None, None, batches.pretraining_texts, partial(embed, precision=spec.precision), seed)
        found = _fisher(set_up(model, spec, given), seen, samples)
    else:
        found = gram_of(model, seen(-(-samples // data.batch_size)), partial(_embed, model, spec))
    origin = {"step_plan": data.digest, "step": data.step, "spec": spec, "samples": samples, "seed": seed}
    return _stored(found, kind, checkpoint, **origin)


def from_memory(remembered: MemoryRef) -> StatisticsRef:
    """The Fisher information in what EWC keeps, of all its steps so far, as statistics of its expert.

    Raises ValueError for the memory of another method.
    """
    groups = memory.load(remembered, remembered.method).groups
    if "fisher" not in groups:
        raise ValueError(
            f"the memory of `{remembered.method}` holds {', '.join(sorted(groups)) or 'nothing'}, expected fisher: "
            "give one of `ewc`, or collect statistics"
        )
    model = clip.build_empty(remembered.anchor.backbone, "meta")
    found = _under_all_names(model, groups["fisher"])
    return _stored(found, "fisher", remembered.anchor, memory=remembered.digest)


def combined(
    statistics: Sequence[StatisticsRef], checkpoint: CheckpointRef, weights: Sequence[float] | None = None
) -> StatisticsRef:
    """Those of the merge `checkpoint` of experts: the sum of theirs, each times its weight; null: 1 each.

    With it, merging one expert after the other is the merge of all at once. One tensor is in memory at a time. Raises
    ValueError for statistics of several kinds or models.
    """
    kinds = sorted({each.kind for each in statistics})
    if len(kinds) != 1:
        raise ValueError(f"cannot combine statistics of the kinds {kinds}; give one or more, all of one kind")
    weights = (1.0,) * len(statistics) if weights is None else tuple(weights)
    if len(weights) != len(statistics) or min(weights) < 0:
        raise ValueError(f"weights {list(weights)} of {len(statistics)} statistics, expected one each, none negative")
    sources = [StoredWeights(locate(each.digest)) for each in statistics]
    parents = {"statistics": [each.digest for each in statistics], "weights": list(weights)}
    return _stored(mapped(partial(_sum, weights), *sources), kinds[0], checkpoint, **parents)


def _sum(weights: Sequence[float], *tensors: Tensor) -> Tensor:
    return sum(tensor * weight for tensor, weight in zip(tensors, weights, strict=True))


def _stored(found: Weights, kind: Kind, checkpoint: CheckpointRef, **origin) -> StatisticsRef:
    with writing(made_by="statistics", kind=kind, checkpoint=checkpoint.digest, **origin) as artifact:
        write_safetensors(found, artifact.path)
    return StatisticsRef(digest=artifact.digest, kind=kind, checkpoint=checkpoint)


def _fisher(run: Training, seen: Callable[[int], Iterator[Minibatch]], samples: int) -> dict[str, Tensor]:
    passes = Passes(seen, partial(contrastive_gradients, run))
    return _under_all_names(run.model, Ewc(fisher_samples=samples).remember(run.model, Carried(), passes)["fisher"])


def _under_all_names(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` of parameters also under their other names, as tied ones must be merged alike."""
    known = {id(parameter): tensors[name] for name, parameter in model.named_parameters() if name in tensors}
    every = model.named_parameters(remove_duplicate=False)
    return {name: known[id(parameter)] for name, parameter in every if id(parameter) in known}


def _embed(model: nn.Module, spec: UpdateSpec, batch: Minibatch) -> None:
    embed(model, batch.images, batch.tokens, spec.precision, -(-len(batch.tokens) // spec.accumulate))


def gram_of(model: nn.Module, batches: Iterable, forward: Callable) -> dict[str, Tensor]:
    """Weight -> the mean over rows of x x^T [in, in], in fp32, of the inputs of each Linear in `forward` of batches.

    Unpacks the attention of `model`, but names are the packed ones. Raises ValueError if no Linear is called.
    """
    unpack_attention(model)
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}
    hooks = [
        module.register_forward_pre_hook(partial(_see, sums, rows, name)) for name, module in _linears(model).items()
    ]
    with torch.no_grad():
        for batch in batches:
            forward(batch)
    for hook in hooks:
        hook.remove()
    if not sums:
        raise ValueError("no Linear of the model was called, so there are no inputs to learn from; merge by `linear`")
    return {name: total / rows[name] for name, total in sums.items()}


def _linears(model: nn.Module) -> dict[str, nn.Module]:
    """Weight in the packed model -> the module whose input it multiplies; none for weights that have another name too.

    Tied weights multiply several inputs, or are looked up too, as token embeddings are.
    """
    names = [id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False)]
    found: dict[str, nn.Module] = {}
    inside: tuple[str, ...] = ()  # what is called as one with the module before
    for name, module in model.named_modules():
        if isinstance(module, SplitAttention):
            found[f"{name}.in_proj_weight"] = module
            inside += tuple(f"{name}.{letter}_proj" for letter in "qkv")
        elif isinstance(module, SplitProjection):
            found[f"{name}.weight"] = module
            inside += tuple(f"{name}.{child}" for child, _ in module.named_children())
        elif isinstance(module, nn.Linear) and name not in inside and names.count(id(module.weight)) == 1:
            found[f"{name}.weight"] = module
    return found


def _see(sums: dict[str, Tensor], rows: dict[str, int], name: str, module: nn.Module, inputs: tuple) -> None:
    """Add x^T x of the rows that enter a module; attention to other tokens than its own has no one input."""
    if isinstance(module, SplitAttention) and not inputs[0] is inputs[1] is inputs[2]:
        return
    with torch.autocast(inputs[0].device.type, enabled=False):
        x = inputs[0].detach().flatten(0, -2).float()  # [rows, in]
        if name not in sums:
            sums[name], rows[name] = x.new_zeros(x.shape[1], x.shape[1]), 0
        sums[name].addmm_(x.T, x)
    rows[name] += len(x)


def _minibatches(model: nn.Module, batches: StepBatches, backbone: str, count: int) -> Iterator[Minibatch]:
    """`count` batches of the update pool on the device of `model`, as it is trained on them."""
    device, trims = next(model.parameters()).device, can_trim(model)
    return (minibatch_of(batch, device, backbone, trims) for batch in batches.of_update_pool(count))
