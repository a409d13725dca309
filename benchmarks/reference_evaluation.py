"""Evaluation as research code does it, to measure ours against: set after set, each with its own loader.

Of every set the classes are embedded each time with all positions of the context, images come from worker processes
that are started for it and go through PIL and torchvision, all logits are kept on the host, and argsort ranks them.
"""

import io
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Classes(NamedTuple):
    """A classification set: where its images lie, which class each is of, and the prompts of its classes."""

    name: str
    tar: str
    places: Sequence[tuple[int, int]]  # offset and length of each image
    targets: Sequence[int]
    prompts: Sequence[str]


class Images(Dataset):
    """The images of a set, transformed."""

    def __init__(self, classes: Classes, transform: Callable[[Image.Image], Tensor]):
        self.classes, self.transform = classes, transform

    def __len__(self) -> int:
        return len(self.classes.places)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        offset, length = self.classes.places[index]
        with open(self.classes.tar, "rb") as file:
            file.seek(offset)
            image = Image.open(io.BytesIO(file.read(length))).convert("RGB")
        return self.transform(image), self.classes.targets[index]


def evaluate(
    model: nn.Module,
    tokenize: Callable[[Sequence[str]], Tensor],
    transform: Callable[[Image.Image], Tensor],
    sets: Sequence[Classes],
    batch_size: int = 256,
    workers: int = 2,
) -> dict[str, tuple[float, float]]:
    """Top-1 and top-5 accuracy of each set."""
    return {some.name: _accuracy(model, tokenize, transform, some, batch_size, workers) for some in sets}


@torch.no_grad()
def _accuracy(
    model: nn.Module, tokenize: Callable, transform: Callable, classes: Classes, batch_size: int, workers: int
) -> tuple[float, float]:
    prompts = [classes.prompts[start : start + batch_size] for start in range(0, len(classes.prompts), batch_size)]
    texts = torch.cat([F.normalize(model.encode_text(tokenize(some)), dim=-1) for some in prompts])
    loader = DataLoader(Images(classes, transform), batch_size=batch_size, num_workers=workers)
    logits, targets = [], []
    for images, answers in loader:
        features = F.normalize(model.encode_image(images), dim=-1)
        logits.append((features @ texts.T).numpy())
        targets.append(answers.numpy())
    order = np.argsort(-np.concatenate(logits), axis=1)[:, :5]
    hits = order == np.concatenate(targets)[:, None]
    return float(hits[:, 0].mean()), float(hits.any(1).mean())
