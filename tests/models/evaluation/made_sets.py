"""Small evaluation sets on disk, for the tests of what is scored on them."""

import hashlib
import io
import json

import numpy as np
import pyarrow as pa
from PIL import Image

from data_catalog import places, store
from data_catalog.eval_sets import EvalSet

PROMPTS = ["a red square", "a green square", "a blue square"]


def three_sets(root):
    """Two classification sets that share their prompts, and a retrieval set with two captions per image."""
    places.register_source("plain", root)
    captions = [f"{word} of {colour}" for colour in ("red", "green", "blue", "white") for word in ("photo", "square")]
    owned = [(2 * i, 2 * i + 2) for i in range(4)]
    return [
        made_set(root, "first", "classification", PROMPTS, [0, 1, 2] * 4),
        made_set(root, "second", "classification", PROMPTS, [2, 1, 0, 0, 1]),
        made_set(root, "pairs", "retrieval", captions, [0, 0, 7, 7], owned),
    ]


def made_set(root, name, kind, texts, targets, owned=None):
    """Noise images with a cast of the colour of their target; the same name and targets give the same images."""
    rng, rows = np.random.default_rng(len(targets)), []
    for i, target in enumerate(targets):
        pixels = rng.integers(0, 200, (20, 24, 3), dtype=np.uint8)
        pixels[..., target % 3] += 50
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        (root / f"{name}{i}.png").write_bytes(buffer.getvalue())
        first, last = owned[i] if owned else (target, target + 1)
        digest = hashlib.sha256(buffer.getvalue()).digest()
        rows.append({"target": target, "shard": f"plain/{name}{i}.png", "offset": 0, "length": len(buffer.getvalue()),
                     "hash": digest, "first_text": first, "last_text": last})  # fmt: skip
    return of_rows(name, kind, texts, rows)


def of_rows(name, kind, texts, rows):
    """The set of some image rows and texts."""
    texts = store.write_bytes(json.dumps(texts).encode())
    return EvalSet(
        digest=store.write_table(pa.Table.from_pylist(rows)), name=name, kind=kind, texts=texts, samples=len(rows)
    )
