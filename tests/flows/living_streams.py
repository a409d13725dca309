"""A tiny living stream: a folder of coloured pictures that batches arrive in."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from flows.experiment import parse
from flows.living_config import LivingConfig

COLOURS = ("red", "green", "blue")
OPEN = {
    "each": None,
    "retention": -1,
    "accumulation": -1,
    "new": -1,
    "since_start": None,
}  # a gate that lets everything pass
SHUT = {"floors": {"COLOURS": 1.0}}  # one that lets nothing pass


def put(inbox: Path, batch: int, count: int = 12) -> None:
    """Write the pictures of one batch, as big as a stamp, into a folder per class."""
    rng = np.random.default_rng(batch)
    for number in range(count):
        pixels = rng.integers(0, 80, (16, 16, 3))
        pixels[..., number % 3] += 150
        path = inbox / COLOURS[number % 3] / f"{batch:04d}-{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)


def raw_living(inbox: Path, **changes) -> dict:
    """A stream that begins with random weights and learns nothing: two iterations a step."""
    return {
        "name": "colours",
        "sources": [
            {"kind": "synthetic", "name": "demo", "pretraining_images": 20, "adaptation_images": 10, "test_images": 8},
            {"kind": "image_folder", "name": "inbox", "dataset": "COLOURS", "data": str(inbox), "test_fraction": 0.3},
        ],
        "pretraining": ["SHAPES", "COUNTS"],
        "start": {"kind": "scratch", "model": "demo/model", "iterations": 1, "batch_size": 8, "update": {"lr": 1e-3}},
        "batch_size": 8,
        "budget": {"kind": "iterations", "per_step": 2},
        "evaluation": {"retention": ["SHAPES"], "adaptation": ["COLOURS"]},
        "recipes": {"main": {"update": {"lr": 1e-3}, "merge": {"init": "ema", "deploy": "ema"}}},
        "living": {"gate": OPEN},
    } | changes


def living_config(inbox: Path, **changes) -> LivingConfig:
    """The tiny stream, parsed."""
    return parse(raw_living(inbox, **changes), "test")


def written(path: Path, inbox: Path, **changes) -> Path:
    """The tiny stream as a file."""
    path.write_text(yaml.safe_dump(raw_living(inbox, **changes)))
    return path
