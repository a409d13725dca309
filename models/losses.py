"""Contrastive losses as pure functions of embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.minibatch import Features
from models.parallel import ALONE, Ranks


def contrastive_loss(
    features: Features,
    concepts: Tensor,
    label_smoothing: float = 0.0,
    multi_positive: bool = False,
    ranks: Ranks = ALONE,
) -> Tensor:
    """The loss the model was pretrained with: sigmoid where it has a bias, else softmax.

    `concepts`: int64 [batch]; with `multi_positive`, rows of one non-negative concept are positives of each other. Of
    several `ranks`, each gets the share of its part of the rows: their mean is the loss, whatever their number.
    Raises ValueError for label smoothing under the sigmoid loss, which defines none.
    """
    image, text, scale, bias = features
    same = same_concept(concepts) if multi_positive else None
    if bias is not None and label_smoothing:
        raise ValueError(f"`label_smoothing` is {label_smoothing}, but the sigmoid loss defines none; set it to 0")
    if ranks.size > 1:
        return _share(features, label_smoothing, same, ranks)
    if bias is None:
        return clip_loss(image, text, scale, label_smoothing, same)
    return siglip_loss(image, text, scale, bias, same)


def clip_loss(
    images: Tensor, texts: Tensor, scale: Tensor, label_smoothing: float = 0.0, same: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, arXiv 2103.00020, Fig. 3), in nats.

    `images`, `texts`: L2-normalised [batch, dim], row i matching row i; `scale`: exponentiated inverse temperature;
    `same`: bool [batch, batch], symmetric: all pairs that match, each row's share spread evenly over them (UniCL, Yang
    et al. 2022, arXiv 2204.03610, section 3.2).
    """
    logits = scale * (images @ texts.T)  # [batch, batch]; so a frozen tower needs no product backward
    if same is None:
        target = torch.arange(len(logits), device=logits.device)
    else:
        target = same.to(logits.dtype) / same.sum(dim=1, keepdim=True)
    rows = F.cross_entropy(logits, target, label_smoothing=label_smoothing)
    return (rows + F.cross_entropy(logits.T, target, label_smoothing=label_smoothing)) / 2


def siglip_loss(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, same: Tensor | None = None) -> Tensor:
    """Pairwise sigmoid loss (Zhai et al. 2023, arXiv 2303.15343, Algorithm 1), in nats per image.

    `same`: bool [batch, batch]: all pairs that match; none: the diagonal.
    """
    logits = scale * (images @ texts.T) + bias  # [batch, batch]
    matches = torch.eye(len(logits), device=logits.device, dtype=logits.dtype) if same is None else same.to(logits)
    return -F.logsigmoid((2 * matches - 1) * logits).sum() / len(logits)


def _share(features: Features, label_smoothing: float, same: Tensor | None, ranks: Ranks) -> Tensor:
    """What a part of the rows [part] contributes against all [batch], times the number of parts."""
    image, text, scale, bias = features
    count = len(image)
    start, stop = count * ranks.rank // ranks.size, count * (ranks.rank + 1) // ranks.size
    own = torch.arange(start, stop, device=image.device)
    if bias is not None:
        matches = torch.eye(count, device=image.device, dtype=torch.bool)[own] if same is None else same[own]
        return sum(
            checkpoint(_sigmoid_block, image[own], text[some], scale, bias, matches[:, some], use_reentrant=False)
            for some in torch.arange(count, device=image.device).chunk(ranks.size)
        ) * (ranks.size / count)  # fmt: skip
    target = own if same is None else (same.to(image.dtype) / same.sum(dim=1, keepdim=True))[own]
    rows = F.cross_entropy(scale * image[own] @ text.T, target, label_smoothing=label_smoothing, reduction="sum")
    columns = F.cross_entropy(scale * text[own] @ image.T, target, label_smoothing=label_smoothing, reduction="sum")
    return (rows + columns) / 2 * (ranks.size / count)


def _sigmoid_block(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor, matches: Tensor) -> Tensor:
    """The sigmoid losses of some images against some texts, summed; computed again in the backward pass.

    So no process ever holds more than [part, part] logits (Zhai et al. 2023, arXiv 2303.15343, section 3.3).
    """
    logits = scale * (images @ texts.T) + bias
    return -F.logsigmoid((2 * matches.to(logits) - 1) * logits).sum()


def same_concept(concepts: Tensor) -> Tensor:
    """Which pairs match, bool [batch, batch]: every row itself, and others of its concept where it has one."""
    same = (concepts[:, None] == concepts[None, :]) & (concepts >= 0)[:, None]
    return same | torch.eye(len(concepts), dtype=torch.bool, device=concepts.device)
