"""Both towers under the precision of the training: normalised features in fp32, text no longer than its longest row."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.minibatch import Features, Minibatch

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def features_of(model: nn.Module, batch: Minibatch, precision: str) -> Features:
    """The features of a whole batch, with gradient wherever the towers train."""
    image, text = batch.ranks.everywhere(*embed_by(model, batch.images, batch.tokens, precision))
    return with_temperature(model, image, text)


def with_temperature(model: nn.Module, image: Tensor, text: Tensor) -> Features:
    """Normalised features together with the model's own temperature and, for sigmoid losses, its bias."""
    bias = getattr(model, "logit_bias", None)
    return Features(image, text, _wide(model.logit_scale.exp()), None if bias is None else _wide(bias))


def embed(
    model: nn.Module,
    images: Tensor | None,
    tokens: Tensor | None,
    precision: str,
    part: int | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """L2-normalised fp32 [batch, dim] features of `images` and `tokens`, at most `part` rows at once."""
    image = _in_parts(images, part, lambda rows: _image(model, rows, precision))
    text = _in_parts(tokens, part, lambda rows: _text(model, rows, precision))
    return image, text


def embed_by(model: nn.Module, images: Tensor, tokens: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """`embed`, of a model that may be in shards (`models.sharding`)."""
    function = getattr(model, "embed_sharded", None)
    return embed(model, images, tokens, precision) if function is None else function(images, tokens, precision)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """The autocast of a precision; `auto` is bf16 on a GPU and fp32 on a CPU."""
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    return nullcontext() if precision in ("fp32", "fp64") else torch.autocast(device.type, _DTYPES[precision])


def parts_of(rows: int, parts: int) -> Iterator[slice]:
    """`parts` slices of nearly equal length that cover `rows`."""
    start = 0
    for i in range(parts):
        stop = rows * (i + 1) // parts
        yield slice(start, stop)
        start = stop


def can_trim(model: nn.Module) -> bool:
    """Whether padding behind the longest text of a batch cannot matter: a causal tower, pooled where a text ends."""
    tower = _own_text_tower(model)
    if tower is None or tower.attn_mask is None or getattr(tower, "cls_emb", None) is not None:
        return False
    return _pooling(tower)[0] in ("argmax", "eos")


def trimmed(tokens: Tensor, bucket: int = 1) -> Tensor:
    """`tokens` [batch, context] on the host without the columns that are padding (0) in every row.

    For models that `can_trim` allows. The length is raised to a multiple of `bucket`.
    """
    used = int((tokens != 0).any(dim=0).nonzero().max()) + 1  # 0 is a word too, but the end of a text is not
    return tokens[:, : min(tokens.shape[1], -(-used // bucket) * bucket)]


def _image(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    with autocast(images.device, precision):
        features = model.encode_image(images.double() if precision == "fp64" else images)
    return F.normalize(_wide(features), dim=-1)


def _text(model: nn.Module, tokens: Tensor, precision: str) -> Tensor:
    with autocast(tokens.device, precision):
        tower = _own_text_tower(model)
        whole = tower is None or tokens.shape[1] >= tower.context_length
        features = model.encode_text(tokens) if whole else _encode_trimmed(tower, tokens)
    return F.normalize(_wide(features), dim=-1)


def _wide(tensor: Tensor) -> Tensor:
    """In fp32, or fp64 where that is what a model computes in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _in_parts(rows: Tensor | None, part: int | None, function) -> Tensor | None:
    if rows is None:
        return None
    if part is None or len(rows) <= part:
        return function(rows)
    return torch.cat([function(some) for some in rows.split(part)])


def _own_text_tower(model: nn.Module) -> nn.Module | None:
    """What holds the parts of OpenCLIP's own text tower: its CLIP itself, or a tower apart; none: Hugging Face's."""
    tower = getattr(model, "text", model)
    return tower if hasattr(tower, "token_embedding") else None


def _pooling(tower: nn.Module) -> tuple[str, int]:
    """How a text's position is chosen, and the id of its end."""
    prefix = "" if hasattr(tower, "pool_type") else "text_"  # that of a CLIP which holds the parts itself
    return getattr(tower, f"{prefix}pool_type"), getattr(tower, f"{prefix}eos_id")


def _encode_trimmed(tower: nn.Module, tokens: Tensor) -> Tensor:
    """What OpenCLIP's own text tower computes, on fewer positions than it has embeddings for."""
    length = tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
    pool, end_id = _pooling(tower)
    end = tokens if pool == "argmax" else tokens == end_id  # the end has the highest id
    x = x[torch.arange(len(x), device=x.device), end.int().argmax(dim=-1)]
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection
