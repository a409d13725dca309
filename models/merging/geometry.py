"""How far weights went and which way: lengths and angles of task vectors by layer, by tower and of the whole model.

A task vector is what a checkpoint added to the one it came from (Ilharco et al. 2023, arXiv 2212.04089, section 2).
The files pass by once, in parts: memory holds a few of these and the inner products of each tensor. Sums are of fixed
blocks in fp64, so the same bits come out with any number of threads. Integer tensors are left aside.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from data_catalog.refs import Spec
from models.merging.parts import Inputs, Part, shapes_of
from models.merging.spanning import inner_products
from models.tensor_files import TensorFile
from models.towers import layers_of
from models.weights import check_shapes

ALL = "all"
_TOWERS = ("image", "text", "shared")


class Extent(Spec):
    """What a part of a model - a layer, a tower, all of it - says of task vectors."""

    tower: str  # image, text, shared (scale and bias of the loss), or all
    layer: str  # stem, block 1.., head, or all
    values: int
    origin_norm: float
    norms: tuple[float, ...]  # of the task vectors
    cosines: tuple[tuple[float | None, ...], ...]  # of all pairs; none where a vector has no length

    @property
    def drift(self) -> tuple[float | None, ...]:
        """Length of each task vector over that of the origin's weights; none where these are all 0."""
        return tuple(norm / self.origin_norm if self.origin_norm else None for norm in self.norms)

    @property
    def consecutive(self) -> tuple[float | None, ...]:
        """Cosine of each task vector with the one before it; one fewer than task vectors."""
        return tuple(self.cosines[i][i - 1] for i in range(1, len(self.norms)))


class Geometry(Spec):
    """The task vectors of some checkpoints of one origin, in the order in which these were given."""

    whole: Extent
    towers: tuple[Extent, ...]
    layers: tuple[Extent, ...]  # from input to output, tower by tower


def measure(origin: Path, checkpoints: Sequence[Path], progress: Callable[[float], None] | None = None) -> Geometry:
    """Compare safetensors files with the `origin` they came from; `progress` hears the share that is done.

    Raises ValueError for files that are damaged, have other tensors or other shapes, or hold values that are not finite
    (but for masks: such values that are the same in all of them count as 0).
    """
    with ExitStack() as stack:
        files = [stack.enter_context(TensorFile(path)) for path in (origin, *checkpoints)]
        check_layouts(files)
        inputs = Inputs(files[0], files[1:])
        if not inputs.floats:
            raise ValueError(f"{origin} has no tensor of floating-point numbers, so there is nothing to compare")
        sums = _sums(inputs, [file.path for file in files], progress)
    return _geometry(sums, {name: inputs.layout[name].numel for name in sums}, list(inputs.layout))


def check_layouts(files: Sequence[TensorFile]) -> None:
    """Raises ValueError naming the tensors and shapes by which a file differs from the first one."""
    first, *rest = files
    for file in rest:
        check_shapes(shapes_of(first.layout), shapes_of(file.layout), str(first.path), str(file.path))


class _Sums(NamedTuple):
    """Inner products of one tensor, or of several."""

    origin: Tensor | None  # [1, 1]
    vectors: Tensor | None  # [n, n]


def _sums(inputs: Inputs, paths: Sequence[Path], progress: Callable[[float], None] | None) -> dict[str, _Sums]:
    """The inner products of every tensor, in name order."""
    sums: dict[str, _Sums] = {}
    total, seen = sum(inputs.sizes().values()), 0
    for part in inputs.parts(inputs.floats):
        sums[part.name] = _added(part, sums.get(part.name, _Sums(None, None)), paths)
        seen += len(part.base)
        if progress:
            progress(seen / total)
    return sums


def _added(part: Part, before: _Sums, paths: Sequence[Path]) -> _Sums:
    vectors = part.experts - part.base
    found = _products(part.base, vectors, before)
    if all(bool(torch.isfinite(gram).all()) for gram in found):
        return found
    rows = torch.cat([part.base[None], part.experts])
    mask = ~torch.isfinite(part.base) & ((rows == part.base) | (rows.isnan() & part.base.isnan())).all(0)
    if bad := [str(path) for path, row in zip(paths, rows, strict=True) if not torch.isfinite(row[~mask]).all()]:
        raise ValueError(
            f"{part.name!r} holds values that are not finite in {', '.join(bad)}; leave out what broke in training"
        )
    return _products(part.base.masked_fill(mask, 0), vectors.masked_fill(mask, 0), before)


def _products(base: Tensor, vectors: Tensor, before: _Sums) -> _Sums:
    return _Sums(inner_products(base[None], before.origin), inner_products(vectors, before.vectors))


def _geometry(sums: Mapping[str, _Sums], values: Mapping[str, int], names: Sequence[str]) -> Geometry:
    places = layers_of(names)
    layers: dict[tuple[int, int, int], list[str]] = {}
    for name in sums:
        tower, layer, last = places[name]
        layers.setdefault((_TOWERS.index(tower), layer, last), []).append(name)
    towers = {tower: [name for name in sums if places[name][0] == tower] for tower in _TOWERS}

    def extent(tower: str, layer: str, chosen: Sequence[str]) -> Extent:
        return _extent(tower, layer, [sums[name] for name in chosen], sum(values[name] for name in chosen))

    return Geometry(
        whole=extent(ALL, ALL, list(sums)),
        towers=tuple(extent(tower, ALL, chosen) for tower, chosen in towers.items() if chosen),
        layers=tuple(extent(_TOWERS[t], _layer_name(i, last), layers[t, i, last]) for t, i, last in sorted(layers)),
    )


def _layer_name(layer: int, last: int) -> str:
    return "head" if layer == last else f"block {layer}" if layer else "stem"


def _extent(tower: str, layer: str, sums: Sequence[_Sums], values: int) -> Extent:
    origin, vectors = (sum(grams) for grams in zip(*sums, strict=True))
    norms = vectors.diagonal().sqrt().tolist()
    cosines = [
        [max(-1.0, min(1.0, product / (a * b))) if a and b else None for product, b in zip(row, norms, strict=True)]
        for row, a in zip(vectors.tolist(), norms, strict=True)
    ]  # rounding alone can make one greater than 1
    return Extent(
        tower=tower, layer=layer, values=values, origin_norm=float(origin.sqrt()), norms=norms, cosines=cosines
    )
