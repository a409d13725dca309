"""Images and texts as unit vectors of a checkpoint: the one way in which anything here embeds them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Literal, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from data_catalog import store
from data_catalog.places import decoded_root
from data_catalog.refs import Ref
from data_catalog.shards import DatasetRef
from models import clip, forward, threads, towers
from models.batches import MOST_WORKERS, centred_images, read_ahead
from models.checkpoints import CheckpointRef, load
from models.decoded_cache import DecodedCache
from models.forward import can_trim

IMAGE_COLUMNS = ["shard", "offset", "length", "hash"]
BLOCK = {"cpu": 64, "cuda": 256}  # rows of a forward pass; always as many, since their number decides bits
_TEXTS_AT_ONCE = 8192  # whose tokens are in memory
_LENGTHS = 8  # positions by which the lengths of texts that run together differ

Key = TypeVar("Key")


class Progress(Protocol):
    """Told how far a long stage is: its label, how much is done, and of how much."""

    def __call__(self, label: str, done: int, total: int, /) -> None: ...


class EmbeddingsRef(Ref):
    """The image embeddings of some splits of a dataset: float16 [rows, dim] in the order of its sample table.

    The digest names a NumPy file. Half precision moves a cosine by less than 0.001.
    """

    dataset: str  # digest of the sample table
    checkpoint: str  # digest
    splits: tuple[str, ...]
    dim: int = Field(ge=1)
    rows: int = Field(ge=1)


class EmbeddedRows(Ref):
    """Some rows of an EmbeddingsRef, from `start`; the digest names a NumPy file."""

    start: int = Field(ge=0)
    stop: int = Field(ge=1)  # the first row that is not among them


def embed_dataset(
    dataset: DatasetRef,
    checkpoint: CheckpointRef,
    splits: tuple[str, ...] = ("train", "test"),
    progress: Progress | None = None,
    pieces: Sequence[EmbeddedRows] = (),
) -> EmbeddingsRef:
    """Embed every image of `splits`, decoded as evaluation does, and store the result.

    `pieces`: all of it, if others have embedded it. Raises ValueError if there is no such image, the features are not
    finite, or the pieces do not make up the whole.
    """
    rows = images_of(dataset.digest, splits, IMAGE_COLUMNS)
    if not rows.num_rows:
        raise ValueError(f"{dataset.name} has no image in {', '.join(splits)}, only in {sorted(dataset.samples)}")
    origin = {"stage": "embed_dataset", "dataset": dataset, "checkpoint": checkpoint, "splits": splits}
    with store.writing(**origin) as artifact:
        if pieces:
            dim = _join(str(artifact.path), pieces, rows.num_rows)
        else:
            label = f"embed {dataset.name}"
            dim = _write_embeddings(str(artifact.path), on_device(checkpoint), checkpoint, rows, label, progress)
    return EmbeddingsRef(
        digest=artifact.digest,
        dataset=dataset.digest,
        checkpoint=checkpoint.digest,
        splits=splits,
        dim=dim,
        rows=rows.num_rows,
    )


def embed_rows(
    dataset: DatasetRef,
    checkpoint: CheckpointRef,
    splits: tuple[str, ...],
    start: int,
    stop: int,
    progress: Progress | None = None,
) -> EmbeddedRows:
    """A piece of `embed_dataset`: the rows from `start` to before `stop`, to the last bit as they are in the whole."""
    rows = images_of(dataset.digest, splits, IMAGE_COLUMNS).slice(start, stop - start)
    with store.writing(stage="embed_rows", dataset=dataset, checkpoint=checkpoint, splits=splits) as artifact:
        label = f"embed {dataset.name} from {start:,}"
        _write_embeddings(str(artifact.path), on_device(checkpoint), checkpoint, rows, label, progress)
    return EmbeddedRows(digest=artifact.digest, start=start, stop=stop)


def load_embeddings(ref: EmbeddingsRef) -> np.ndarray:
    """float16 [rows, dim], mapped from the store and not to be written to; raises MissingArtifact."""
    return np.load(store.locate(ref.digest), mmap_mode="r")


def images_of(table: str, splits: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """`columns` of the sample table with the digest `table`, the rows of `splits` in their order."""
    names = list(dict.fromkeys([*columns, "split"]))
    samples = store.read_table(table, names).replace_schema_metadata(None)
    return samples.filter(pc.is_in(samples["split"], pa.array(splits, pa.string()))).select(columns)


def device_kind() -> Literal["cuda", "cpu"]:
    """Where models embed; their arithmetic follows from it, half precision on a GPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def on_device(checkpoint: CheckpointRef) -> nn.Module:
    """The model of a checkpoint in evaluation mode, on the GPU if there is one."""
    model = clip.build(checkpoint).to(device_kind())
    threads.fit_to(model)
    return model


@torch.inference_mode()
def embed_images(
    model: nn.Module, backbone: str, rows: pa.Table, batch_size: int = 256, progress: Progress | None = None
) -> Tensor:
    """Normalised float32 embeddings [rows, dim] on the CPU; `rows`: the columns shard, offset, length and hash."""
    jobs = ((None, batch) for batch in batches_of(rows, batch_size))
    parts, done = [], 0
    for _, features in embed_batches(model, backbone, jobs):
        parts.append(features.cpu())
        done += len(features)
        if progress:
            progress("embed images", done, rows.num_rows)
    return torch.cat(parts)


@torch.inference_mode()
def embed_texts(model: nn.Module, backbone: str, texts: Sequence[str]) -> Tensor:
    """Normalised float32 embeddings [texts, dim] on the CPU, each of which follows from its text alone.

    Texts run beside others of about their length, without the padding behind them where that cannot matter.
    """
    tokenize = clip.tokenizer(backbone)
    parts = [texts[start : start + _TEXTS_AT_ONCE] for start in range(0, len(texts), _TEXTS_AT_ONCE)]
    return torch.cat([embed_tokens(model, tokenize(part)) for part in parts])


@torch.inference_mode()
def embed_tokens(model: nn.Module, tokens: Tensor) -> Tensor:
    """As `embed_texts`, of token ids [texts, context] on the CPU."""
    lengths = _lengths(tokens) if can_trim(model) else torch.full((len(tokens),), tokens.shape[1])
    order = lengths.argsort(stable=True)
    parts = [
        _embed_block_by_block(model, tokens[rows, : int(length)])
        for length, rows in zip(*_runs(lengths[order], order), strict=True)
    ]
    return torch.empty(len(tokens), parts[0].shape[1]).index_copy_(0, order, torch.cat(parts))


def _lengths(tokens: Tensor) -> Tensor:
    """How many columns each row of `tokens` [texts, context] needs, raised so that there are few different numbers."""
    used = tokens.shape[1] - (tokens != 0).flip(1).int().argmax(1)
    return (-(-used // _LENGTHS) * _LENGTHS).clamp(max=tokens.shape[1])


def _runs(lengths: Tensor, order: Tensor) -> tuple[list[int], Sequence[Tensor]]:
    """The distinct values of sorted `lengths`, and the entries of `order` that belong to each."""
    values, counts = lengths.unique_consecutive(return_counts=True)
    return values.tolist(), order.split(counts.tolist())


def _embed_block_by_block(model: nn.Module, tokens: Tensor) -> Tensor:
    device, parts = device_of(model), []
    for rows in tokens.split(BLOCK[device.type]):
        filled = _filled(rows, BLOCK[device.type])
        _, vectors = forward.embed(model, None, filled.to(device), "fp16" if device.type == "cuda" else "fp32")
        parts.append(vectors[: len(rows)].cpu())
    return torch.cat(parts)


def _filled(rows: Tensor, count: int) -> Tensor:
    """`rows` and their first one as often as it takes to have `count` of them."""
    return rows if len(rows) == count else torch.cat([rows, rows[:1].expand(count - len(rows), *rows.shape[1:])])


def batches_of(rows: pa.Table, batch_size: int) -> Iterator[pa.Table]:
    """`rows` cut into slices of at most `batch_size`."""
    return (rows.slice(start, batch_size) for start in range(0, rows.num_rows, batch_size))


@torch.inference_mode()
def embed_batches(
    model: nn.Module, backbone: str, jobs: Iterable[tuple[Key, pa.Table]]
) -> Iterator[tuple[Key, Tensor]]:
    """Each batch of image rows as normalised float32 [rows, dim] on the device of `model`, decoded ahead on threads."""
    for key, images in decoded_batches(clip.preprocessing(backbone), jobs):
        blocks = pixel_blocks(images, backbone, device_of(model))
        yield key, torch.cat([embed_pixels(model, pixels)[:count] for pixels, count in blocks])


def decoded_batches(
    wanted: clip.Preprocessing, jobs: Iterable[tuple[Key, pa.Table]], workers: int | None = None
) -> Iterator[tuple[Key, Tensor]]:
    """Each batch of image rows as uint8 [rows, 3, size, size], decoded or read from the cache ahead on threads."""
    squash, root = wanted.resize_mode == "squash", decoded_root()
    kept = root and DecodedCache(root, wanted.size, squash)

    def decode(rows: pa.Table) -> Tensor:
        return centred_images(rows, wanted.size, squash)

    def load(job: tuple[Key, pa.Table]) -> tuple[Key, Tensor]:
        return job[0], kept.images(job[1], decode) if kept else decode(job[1])

    return read_ahead(load, jobs, workers or min(os.cpu_count() or 1, MOST_WORKERS))


def pixel_blocks(images: Tensor, backbone: str, device: torch.device) -> Iterator[tuple[Tensor, int]]:
    """`images` as an image tower takes them, in blocks of one length, and how many rows of each count.

    The last block is filled up, so that what becomes of an image follows from it alone, to the last bit.
    """
    for rows in images.to(device, non_blocking=True).split(BLOCK[device.type]):
        yield clip.normalise(_filled(rows, BLOCK[device.type]), backbone), len(rows)


def embed_pixels(model: nn.Module, pixels: Tensor) -> Tensor:
    """Normalised float32 [rows, dim] of one block of `pixel_blocks`."""
    with _precision(model):
        return _unit(model.encode_image(pixels))


@lru_cache(maxsize=1024)
def tower_digest(checkpoint: CheckpointRef, tower: towers.Tower) -> str:
    """What the outputs of one tower follow from: the digest of its weights and of the description of the backbone."""
    weights, seal = load(checkpoint), sha256(checkpoint.backbone.encode())
    for name, tensor in weights.items():
        if towers.tower_of(name) == tower:
            seal.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            seal.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{seal.hexdigest()}"


def without_texts(model: nn.Module) -> nn.Module:
    """`model` itself, which from now on holds no weights of its text tower and embeds images only."""
    for name, parameter in model.named_parameters():
        if towers.tower_of(name) == "text":
            parameter.data = parameter.data.new_empty(0)
    return model


def _write_embeddings(
    path: str, model: nn.Module, checkpoint: CheckpointRef, rows: pa.Table, label: str, progress: Progress | None
) -> int:
    file, done = None, 0
    for features in _finite(model, checkpoint, rows):
        if file is None:
            shape = (rows.num_rows, features.shape[1])
            file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        file[done : done + len(features)] = features.half().cpu().numpy()
        done += len(features)
        if progress:
            progress(label, done, rows.num_rows)
    file.flush()
    return file.shape[1]


def _join(path: str, pieces: Sequence[EmbeddedRows], rows: int) -> int:
    ordered = sorted(pieces, key=lambda piece: piece.start)
    ends = [0, *(piece.stop for piece in ordered)]
    if [piece.start for piece in ordered] != ends[:-1] or ends[-1] != rows:
        raise ValueError(f"pieces from {[piece.start for piece in ordered]} to {ends[1:]} are not the {rows} rows")
    parts = [np.load(store.locate(piece.digest), mmap_mode="r") for piece in ordered]
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, parts[0].shape[1]))
    for piece, part in zip(ordered, parts, strict=True):
        file[piece.start : piece.stop] = part
    file.flush()
    return file.shape[1]


def _finite(model: nn.Module, checkpoint: CheckpointRef, rows: pa.Table, batch_size: int = 256) -> Iterator[Tensor]:
    jobs = ((None, batch) for batch in batches_of(rows, batch_size))
    for _, features in embed_batches(model, checkpoint.backbone, jobs):
        if not bool(features.isfinite().all()):
            raise ValueError(
                f"checkpoint {checkpoint.digest[:19]} gives features that are not finite: its training has diverged; "
                "embed with another one"
            )
        yield features


def _unit(features: Tensor) -> Tensor:
    """Normalised in float32: in half precision the lengths themselves would differ by a thousandth."""
    return F.normalize(features.float(), dim=-1)


def _precision(model: nn.Module) -> torch.autocast:
    """Half precision on a GPU: float16 keeps three more bits of a feature than bfloat16; overflow is refused later."""
    device = device_of(model).type
    return torch.autocast(device, dtype=torch.float16, enabled=device == "cuda")


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of `model` are."""
    return next(model.parameters()).device
