"""From a step plan to batches: any iteration's batch is a pure function of (plan, seed, iteration)."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from data_catalog.reading import read_sample
from data_catalog.seeds import rng
from data_catalog.store import read_table
from data_catalog.stream import StepPlan

CROP_AREA = (0.9, 1.0)  # share of the image a training crop covers
CROP_ASPECT = (3 / 4, 4 / 3)  # width over height
_TRIES = 10
_KEPT_PIXELS, _KEPT_IMAGES = 64 * 64, 30_000  # decoded images kept per step: at most 0.4 GB, and only tiny ones
_KEPT_TEXTS = 50_000
_BATCH_WORKERS = 2

Job = TypeVar("Job")
Loaded = TypeVar("Loaded")


class Batch(NamedTuple):
    """One iteration's samples, rows in the order update, buffer, pretraining."""

    images: Tensor  # uint8 [batch, 3, size, size]
    tokens: Tensor  # int64 [batch, context]


class StepBatches:
    """The batches of one step, decoded ahead of their use; small images and token ids are kept for their next draw."""

    def __init__(self, plan: StepPlan, size: int, tokenize: Callable[[Sequence[str]], Tensor], seed: int):
        self._rows = read_table(plan.digest, ["shard", "offset", "length", "hash", "text"])
        self._plan, self._size, self._tokenize, self._seed = plan, size, tokenize, seed
        self._decoded: dict[bytes, Image.Image] = {}
        self._tokens: dict[str, Tensor] = {}

    def batch(self, iteration: int) -> Batch:
        """The batch of `iteration`, decoded now."""
        rows = self._rows.slice(iteration * self._plan.batch_size, self._plan.batch_size)
        draws = rng(self._seed, "crop", self._plan.step, iteration)
        images = self._images(rows)
        boxes = crop_boxes(np.array([image.size for image in images]), draws)
        crops = [
            _resized(image.crop(tuple(box)), self._size) for image, box in zip(images, boxes.tolist(), strict=True)
        ]
        return Batch(_stacked(crops), self._token_ids(rows["text"].to_pylist()))

    def _images(self, rows: pa.Table) -> list[Image.Image]:
        hashes = rows["hash"].to_pylist()
        missing = [i for i, key in enumerate(hashes) if key not in self._decoded]
        fresh = dict(zip(missing, map(decode, read_blobs(rows.take(pa.array(missing, pa.int64())))), strict=True))
        for i, image in fresh.items():
            if image.width * image.height <= _KEPT_PIXELS and len(self._decoded) < _KEPT_IMAGES:
                self._decoded[hashes[i]] = image
        return [fresh[i] if i in fresh else self._decoded[key] for i, key in enumerate(hashes)]

    def _token_ids(self, texts: list[str]) -> Tensor:
        fresh = list(dict.fromkeys(text for text in texts if text not in self._tokens))
        ids = dict(zip(fresh, self._tokenize(fresh), strict=True)) if fresh else {}
        if len(self._tokens) < _KEPT_TEXTS:
            self._tokens.update(ids)
        return torch.stack([ids[text] if text in ids else self._tokens[text] for text in texts])

    def ahead(self, start: int) -> Iterator[Batch]:
        """The batches from `start` to the end of the step, a few of them prepared in the background."""
        return read_ahead(self.batch, range(start, self._plan.iterations), _BATCH_WORKERS)


def read_ahead(load: Callable[[Job], Loaded], jobs: Iterable[Job], workers: int) -> Iterator[Loaded]:
    """`load` of every job in order, a few of them ahead on threads: decoding releases the interpreter lock."""
    with ThreadPoolExecutor(workers, thread_name_prefix="read-ahead") as pool:
        waiting = deque()
        try:
            for job in jobs:
                waiting.append(pool.submit(load, job))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def decode_for_evaluation(blobs: Sequence[bytes], size: int) -> Tensor:
    """Shorter side to `size` (bicubic), centre crop: uint8 [images, 3, size, size]."""
    return _stacked([_centre(decode(blob), size) for blob in blobs])


def decode(blob: bytes) -> Image.Image:
    """An encoded image as RGB."""
    with Image.open(io.BytesIO(blob)) as image:
        return image.convert("RGB")


def read_blobs(rows: pa.Table) -> list[bytes]:
    """The encoded images of rows with columns shard, offset, length and hash."""
    columns = (rows[name].to_pylist() for name in ("shard", "offset", "length", "hash"))
    return [read_sample(*row) for row in zip(*columns, strict=True)]


def crop_boxes(sizes: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """A random training crop per image: int [images, 4] as left, top, right, bottom.

    `sizes`: [images, 2] as width, height. Area and log aspect ratio are uniform; where none of ten tries fits inside
    the image, the largest centred crop of an allowed aspect is taken (FoMo-in-Flux, arXiv 2408.14471, appendix).
    """
    count = len(sizes)
    area = draws.uniform(*CROP_AREA, (count, _TRIES)) * sizes.prod(1, keepdims=True)
    aspect = np.exp(draws.uniform(*np.log(CROP_ASPECT), (count, _TRIES)))
    tried = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], -1).round().astype(int)  # [images, tries, 2]
    fits = (tried <= sizes[:, None]).all(-1) & (tried > 0).all(-1)
    chosen = tried[np.arange(count), fits.argmax(1)]
    crop = np.where(fits.any(1, keepdims=True), chosen, _largest(sizes))
    corner = np.floor(draws.random((count, 2)) * (sizes - crop + 1)).astype(int)
    corner = np.where(fits.any(1, keepdims=True), corner, (sizes - crop) // 2)
    return np.concatenate([corner, corner + crop], 1)


def _largest(sizes: np.ndarray) -> np.ndarray:
    width, height = sizes[:, 0], sizes[:, 1]
    low, high = CROP_ASPECT
    return np.stack(
        [
            np.minimum(width, (height * high).round().astype(int)),
            np.minimum(height, (width / low).round().astype(int)),
        ],
        1,
    )


def _centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    shorter = min(width, height)
    scaled = image.resize((size * width // shorter, size * height // shorter), Image.Resampling.BICUBIC)
    left, top = round((scaled.width - size) / 2), round((scaled.height - size) / 2)
    return scaled.crop((left, top, left + size, top + size))


def _resized(image: Image.Image, size: int) -> Image.Image:
    return image.resize((size, size), Image.Resampling.BICUBIC)


def _stacked(images: Sequence[Image.Image]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()
