"""Contrastive losses as pure functions of embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE (Radford et al. 2021, arXiv 2103.00020, Fig. 3), in nats.

    `images`, `texts`: L2-normalised [batch, dim], row i matching row i; `scale`: exponentiated inverse temperature.
    """
    logits = scale * images @ texts.T  # [batch, batch]
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def siglip_loss(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Pairwise sigmoid loss (Zhai et al. 2023, arXiv 2303.15343, Algorithm 1), in nats per image."""
    logits = scale * images @ texts.T + bias  # [batch, batch]
    sign = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)
