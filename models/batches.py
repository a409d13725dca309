"""From a step plan to batches: any iteration's batch is a pure function of (plan, seed, iteration)."""

import math
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from data_catalog.reading import read_samples
from data_catalog.sample_columns import codes_of
from data_catalog.seeds import rng
from data_catalog.store import read_table
from data_catalog.stream import StepPlan
from models.decoding import DamagedImage, decode, empty_batch, write_centre, write_crop
from models.parallel import ALONE, Ranks

CROP_AREA = (0.9, 1.0)  # share of the image a training crop covers
CROP_ASPECT = (3 / 4, 4 / 3)  # width over height
MOST_WORKERS = 16  # decoding threads; each has a batch in memory
_TRIES = 10  # boxes drawn per crop
_TRIES_TO_REPLACE = 20  # samples drawn for a damaged one: where so many are damaged, something else is wrong
_READ_AT_ONCE = 128  # encoded images in memory per thread
_KEPT_PIXELS, _KEPT_IMAGES = 64 * 64, 30_000  # decoded images kept per step: at most 0.4 GB, and only tiny ones
_KEPT_TEXTS = 50_000

Job = TypeVar("Job")
Loaded = TypeVar("Loaded")
OnDamaged = Literal["fail", "replace"]  # what becomes of a sample of a step that does not decode


class Replaced(NamedTuple):
    """A draw of a step that was not trained on, since its image is damaged."""

    row: int  # of the step plan
    by: int  # row whose image and text took its place
    reason: str


class Batch(NamedTuple):
    """One iteration's samples, rows in the order update, buffer, pretraining: those of one process."""

    images: Tensor  # uint8 [own, 3, size, size], channels last
    tokens: Tensor  # int64 [own, context]
    concepts: Tensor  # int64 [own]: equal numbers are one class of one dataset, -1 is none
    pretraining: int  # how many rows of the whole batch, the last ones, come from the pretraining pool
    replaced: tuple[Replaced, ...] = ()


class StepBatches:
    """The batches of one step, decoded ahead of their use; small images and token ids are kept for their next draw.

    An image that does not decode stops the step, or with `on_damaged="replace"` another draw of the same pool takes
    its place: which one is decided by (plan, seed, iteration, position) alone, and the batch says so. Of several
    `ranks` each reads its own rows; what stands at a position does not depend on how many there are.
    """

    def __init__(
        self,
        plan: StepPlan,
        size: int,
        tokenize: Callable[[Sequence[str]], Tensor],
        seed: int,
        on_damaged: OnDamaged = "fail",
        ranks: Ranks = ALONE,
    ):
        self._rows = read_table(plan.digest, ["shard", "offset", "length", "hash", "text"]).combine_chunks()
        self._plan, self._size, self._tokenize, self._seed = plan, size, tokenize, seed
        self._on_damaged, self._own = on_damaged, ranks.rows(plan.batch_size)
        self._decoded: dict[Hashable, np.ndarray] = {}
        self._tokens: dict[str, Tensor] = {}

    def batch(self, iteration: int) -> Batch:
        """The batch of `iteration`, decoded now; raises ValueError for an image that cannot be used."""
        count = self._plan.batch_size
        rows = np.arange(iteration * count, (iteration + 1) * count)
        return self._batch(rows, rng(self._seed, "crop", self._plan.step, iteration), iteration)

    def ahead(self, start: int) -> Iterator[Batch]:
        """The batches from `start` to the end of the step, a few of them prepared in the background."""
        load = self._pinned if torch.cuda.is_available() else self.batch
        return read_ahead(load, range(start, self._plan.iterations), min(os.cpu_count() or 1, MOST_WORKERS))

    def _pinned(self, iteration: int) -> Batch:
        """The batch in memory that is copied to a GPU while the host goes on."""
        batch = self.batch(iteration)
        return batch._replace(images=batch.images.pin_memory(), tokens=batch.tokens.pin_memory())

    def of_update_pool(self, count: int) -> Iterator[Batch]:
        """`count` batches of the draws of the update pool, over and over from the first; of all where it has none."""
        wanted = self._rows_of("update")
        rows = wanted if len(wanted) else np.arange(self._rows.num_rows)

        def load(number: int) -> Batch:
            chosen = rows[(number * self._plan.batch_size + np.arange(self._plan.batch_size)) % len(rows)]
            return self._batch(chosen, rng(self._seed, "late crop", self._plan.step, number), -1 - number)

        return read_ahead(load, range(count), min(os.cpu_count() or 1, MOST_WORKERS))

    def pretraining_texts(self, most: int) -> Tensor:
        """Token ids [texts, context] of at most `most` distinct texts of the pretraining draws, by their first draw."""
        rows = self._rows_of("pretraining")
        texts = pc.unique(self._rows["text"].take(pa.array(rows))).to_pylist()[:most]
        return self._token_ids(texts) if texts else self._tokenize([""])[:0]

    def _batch(self, rows: np.ndarray, draws: np.random.Generator, number: int) -> Batch:
        pretraining = int((self._pool_codes[0][rows] == self._code_of("pretraining")).sum())
        crops, first = TrainingCrops(len(rows), draws), self._own.start
        rows = rows[self._own]
        texts = self._rows["text"].take(pa.array(rows)).to_pylist()
        images, replaced, used = empty_batch(len(rows), self._size), [], rows.copy()
        for place, image in enumerate(self._images(rows)):
            row, position = int(rows[place]), first + place
            if isinstance(image, DamagedImage):
                by, instead = self._replacement(row, number, position, image)
                replaced.append(Replaced(row, by, str(image)))
                image, texts[place], used[place] = instead, self._rows["text"][by].as_py(), by
            height, width = image.shape[:2]
            write_crop(image, crops.box(position, width, height), images[place])
        concepts = torch.from_numpy(self._concepts[used])
        return Batch(images, self._token_ids(texts), concepts, pretraining, tuple(replaced))

    def _images(self, rows: np.ndarray) -> Iterator[np.ndarray | DamagedImage]:
        """The images of rows of the plan, decoded one at a time."""
        for start in range(0, len(rows), _READ_AT_ONCE):
            some = self._rows.take(pa.array(rows[start : start + _READ_AT_ONCE]))
            keys = _keys(some)
            missing = [i for i, key in enumerate(keys) if key not in self._decoded]
            blobs = dict(zip(missing, read_samples(some.take(pa.array(missing, pa.int64()))), strict=True))
            for i, key in enumerate(keys):
                yield self._fresh(key, blobs.pop(i)) if i in blobs else self._decoded[key]

    def _fresh(self, key: Hashable, blob: bytes) -> np.ndarray | DamagedImage:
        try:
            image = decode(blob)
        except DamagedImage as error:
            return error
        if image.shape[0] * image.shape[1] <= _KEPT_PIXELS and len(self._decoded) < _KEPT_IMAGES:
            self._decoded[key] = image
        return image

    def _replacement(self, row: int, iteration: int, position: int, damage: DamagedImage) -> tuple[int, np.ndarray]:
        """Another row of the same pool, and its image; raises ValueError if there shall be or is none."""
        if self._on_damaged == "fail":
            raise ValueError(self._complaint(row, damage, "")) from damage
        candidates = np.flatnonzero(self._pools == self._pools[row])
        draws = rng(self._seed, "replacement", self._plan.step, iteration, position)
        for by in draws.choice(candidates, _TRIES_TO_REPLACE).tolist():
            (image,) = self._images(np.array([by]))
            if not isinstance(image, DamagedImage):
                return by, image
        raise ValueError(
            self._complaint(row, damage, f"; nor do {_TRIES_TO_REPLACE} others of its pool that were drawn instead")
        ) from damage

    def _complaint(self, row: int, damage: DamagedImage, more: str) -> str:
        identity = read_table(self._plan.digest, ["id"])["id"][row].as_py()
        return (
            f"step {self._plan.step} draws {identity}, which does not decode: {_place(self._rows, row)}: {damage}"
            f"{more}. Ingest its source with `check: decode`, which keeps such images out of every stream, or take it "
            f"out with `evergreen forget --sample {identity}`, or train with `on_damaged: replace`"
        )

    @cached_property
    def _pool_codes(self) -> tuple[np.ndarray, list[str]]:
        """The pool of each row as a number, and the names of the pools."""
        pools = read_table(self._plan.digest, ["pool"])["pool"].cast(pa.string()).combine_chunks().dictionary_encode()
        return codes_of(pools), pools.dictionary.to_pylist()

    @property
    def _pools(self) -> np.ndarray:
        return self._pool_codes[0]

    def _rows_of(self, pool: str) -> np.ndarray:
        """The rows of the plan that were drawn from a pool."""
        return np.flatnonzero(self._pools == self._code_of(pool))

    def _code_of(self, pool: str) -> int:
        names = self._pool_codes[1]
        return names.index(pool) if pool in names else -1

    @cached_property
    def _concepts(self) -> np.ndarray:
        """A number per row for its class, which is one of its dataset alone; -1 for none."""
        table = read_table(self._plan.digest, ["id", "concept"])
        concept = table["concept"].cast(pa.string())
        dataset = pc.replace_substring_regex(table["id"].cast(pa.string()), "/.*$", "")
        named = pc.binary_join_element_wise(dataset, concept, "+++").combine_chunks()  # null where the concept is
        return codes_of(named.dictionary_encode()).astype(np.int64)

    def _token_ids(self, texts: list[str]) -> Tensor:
        fresh = list(dict.fromkeys(text for text in texts if text not in self._tokens))
        ids = dict(zip(fresh, self._tokenize(fresh), strict=True)) if fresh else {}
        if len(self._tokens) < _KEPT_TEXTS:
            self._tokens.update(ids)
        return torch.stack([ids[text] if text in ids else self._tokens[text] for text in texts])


class TrainingCrops:
    """The random crops of one batch; the box at a position depends on the size of its own image alone.

    Area and log aspect ratio are uniform; where none of ten tries fits inside the image, the largest centred crop of
    an allowed aspect is taken (FoMo-in-Flux, arXiv 2408.14471, appendix).
    """

    def __init__(self, count: int, draws: np.random.Generator):
        self._areas = draws.uniform(*CROP_AREA, (count, _TRIES)).tolist()
        self._aspects = np.exp(draws.uniform(*np.log(CROP_ASPECT), (count, _TRIES))).tolist()
        self._corners = draws.random((count, 2)).tolist()

    def box(self, position: int, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the crop at a position of the batch, of an image of this size."""
        for area, aspect in zip(self._areas[position], self._aspects[position], strict=True):
            pixels = area * (width * height)
            wide, high = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
            if 0 < wide <= width and 0 < high <= height:
                across, down = self._corners[position]
                left, top = int(across * (width - wide + 1)), int(down * (height - high + 1))
                return left, top, left + wide, top + high
        wide, high = min(width, round(height * CROP_ASPECT[1])), min(height, round(width / CROP_ASPECT[0]))
        left, top = (width - wide) // 2, (height - high) // 2
        return left, top, left + wide, top + high


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


def centred_images(rows: pa.Table, size: int, squash: bool = False) -> Tensor:
    """The images of rows with columns shard, offset, length and hash: shorter side to `size` (bicubic), centre crop.

    `squash`: both sides to `size` instead, nothing cropped. Returns uint8 [images, 3, size, size], channels last.
    Raises ValueError naming the place of an image that does not decode.
    """
    images = empty_batch(rows.num_rows, size)
    for start in range(0, rows.num_rows, _READ_AT_ONCE):
        for row, blob in enumerate(read_samples(rows.slice(start, _READ_AT_ONCE)), start):
            try:
                _write_whole(decode(blob), images[row]) if squash else write_centre(decode(blob), images[row])
            except DamagedImage as damage:
                raise ValueError(
                    f"an image does not decode: {_place(rows, row)}: {damage}. It is not left out silently, since a "
                    "score or an index over fewer images means something else: ingest its source with `check: decode`"
                ) from damage
    return images


def _write_whole(image: np.ndarray, into: Tensor) -> None:
    height, width = image.shape[:2]
    write_crop(image, (0, 0, width, height), into)


def _keys(rows: pa.Table) -> list[Hashable]:
    """What tells images apart: their hash, or where it is unknown, their place."""
    columns = (rows[name].to_pylist() for name in ("hash", "shard", "offset"))
    return [hash or (shard, offset) for hash, shard, offset in zip(*columns, strict=True)]


def _place(rows: pa.Table, row: int) -> str:
    shard, offset, length = (rows[name][row].as_py() for name in ("shard", "offset", "length"))
    return f"{length} bytes at {offset} of {shard}"
