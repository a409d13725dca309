"""The inputs of a merge in parts: the same run of values of every input at once, a few million of them in memory.

How the parts are cut depends on the number of inputs alone, never on threads or memory, so that sums do not either.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from models.merging.workers import Workers
from models.tensor_files import Entry
from models.towers import tower_of
from models.weights import check_shapes

BLOCK = 65_536  # values; parts are multiples of it, so that sums over blocks are those of the whole tensor
_PART_BYTES = 48_000_000  # of all inputs together, at most
_LONGEST = 8 * BLOCK  # values of each input: what a core's caches hold while they are combined
_ROW = 4 * BLOCK  # values of each input where rows come one by one: they stay in the caches of a core
_AHEAD = 2  # parts that are read while one is computed


class Rows:
    """A run of values of every expert, each read into the same memory when it is its turn, as often as one goes over.

    Of twenty experts that are added up, memory then sees the values once, not three times.
    """

    def __init__(self, count: int, row: Tensor, read: Callable[[int, Tensor], Tensor]):
        self.shape = (count, len(row))
        self._row, self._read = row, read

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        """Each expert's values [size]; its memory may be changed, and is the next one's then."""
        return (self._read(expert, self._row) for expert in range(len(self)))


class Part(NamedTuple):
    """A run of values of one tensor, of every input; the memory is the reader's to fill and the technique's to use."""

    name: str  # of the tensor
    group: str  # "image" or "text", the half of the model; thresholds are those of a half
    shape: tuple[int, ...]  # of the tensor
    start: int  # of the run in the flat tensor
    base: Tensor | None  # [size], fp32, or fp64 where an input is; none for techniques that need none
    experts: Tensor | Rows  # [n, size], of the same type
    statistics: Sequence[Tensor] | None = None  # per expert, of techniques that use them

    @property
    def is_scalar(self) -> bool:
        """Whether the tensor is one number, such as the logit scale."""
        return torch.Size(self.shape).numel() == 1


class Run(NamedTuple):
    """Some values of a flat tensor."""

    name: str
    start: int
    stop: int


class Source(Protocol):
    """Where tensors are read from by position."""

    layout: Mapping[str, Entry]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """Values of a flat tensor, in memory that may be written to."""


class InMemory:
    """Tensors that are there already, read like those of a file."""

    def __init__(self, weights: Mapping[str, Tensor]):
        self._weights = weights
        self.layout = {
            name: Entry(tensor.dtype, tuple(tensor.shape), 0, tensor.numel() * tensor.element_size())
            for name, tensor in sorted(weights.items())
        }

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """A copy of values of a flat tensor."""
        return self._weights[name].detach().reshape(-1)[start:stop].clone()


class Inputs:
    """What enters a merge, all of one layout; raises ValueError naming what differs."""

    def __init__(self, base: Source | None, experts: Sequence[Source], device: str = "cpu"):
        if not experts:
            raise ValueError("there is no expert to merge; give one or more")
        self.base, self.experts, self._device = base, experts, device
        self.layout = experts[-1].layout
        named = [("the base", base)] if base else []
        named += [(f"expert {number}", source) for number, source in enumerate(experts)]
        for what, source in named:
            _check_layout(source.layout, self.layout, what)
        kinds = {entry.dtype for _, source in named for entry in source.layout.values()}
        self.dtype = torch.float64 if torch.float64 in kinds else torch.float32  # of the arithmetic
        self.groups = {name: group_of(name) for name in self.layout}
        self.floats = [name for name, entry in self.layout.items() if entry.dtype.is_floating_point and entry.numel]

    def sizes(self) -> dict[str, int]:
        """How many values each half of the model has."""
        sizes: dict[str, int] = {}
        for name in self.floats:
            sizes[self.groups[name]] = sizes.get(self.groups[name], 0) + self.layout[name].numel
        return sizes

    def part_length(self, with_base: bool = True, by_row: bool = False) -> int:
        """How many values of each input a part has at most."""
        if by_row and self._device == "cpu":
            return _ROW
        count = self._held(with_base, by_row)
        return min(_LONGEST, max(BLOCK, _PART_BYTES // (self.dtype.itemsize * count) // BLOCK * BLOCK))

    def each(
        self,
        workers: Workers,
        see: Callable[[Part], None],
        names: Sequence[str],
        with_base: bool = True,
        by_row: bool = False,
    ) -> None:
        """Let `see` have every part of the tensors `names`, in any order, many at once; the memory is reused then.

        `by_row`: the experts of a part are `Rows`.
        """
        rooms: SimpleQueue[Tensor] = SimpleQueue()
        length = self.part_length(with_base, by_row)

        def read(run: Run) -> None:
            try:
                room = rooms.get_nowait()
            except Empty:
                room = self._room(length, with_base, by_row)
            try:
                see(self._part(run, with_base, room, by_row))
            finally:
                rooms.put(room)

        workers.do(read, self._runs(names, length))

    def parts(self, names: Sequence[str], with_base: bool = True, whole: bool = False) -> Iterator[Part]:
        """The tensors `names` in parts one after the other, read ahead; `whole`: each in one, not read ahead."""
        sizes = [self.layout[name].numel for name in names]
        length, ahead = (max(sizes, default=1), 0) if whole else (self.part_length(with_base), _AHEAD)
        rooms: deque[Tensor] = deque()  # of parts that are done with: fresh pages cost as much as reading
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="merge-read") as pool:
            waiting: deque = deque()
            for run in self._runs(names, length):
                room = rooms.popleft() if rooms else self._room(length, with_base)
                waiting.append((pool.submit(self._part, run, with_base, room), room))
                if len(waiting) > ahead:
                    part, room = waiting.popleft()
                    yield part.result()
                    rooms.append(room)
            while waiting:
                yield waiting.popleft()[0].result()

    def _runs(self, names: Sequence[str], length: int) -> Iterator[Run]:
        for name in names:
            size = self.layout[name].numel
            for start in range(0, size, length):
                yield Run(name, start, min(start + length, size))

    def _held(self, with_base: bool, by_row: bool) -> int:
        """How many runs of values are in memory at once."""
        return (1 if by_row else len(self.experts)) + with_base

    def _room(self, length: int, with_base: bool, by_row: bool = False) -> Tensor:
        return torch.empty(self._held(with_base, by_row) * length, dtype=self.dtype)

    def _part(self, run: Run, with_base: bool, room: Tensor, by_row: bool = False) -> Part:
        name, start, stop = run
        size, count = stop - start, len(self.experts)
        base = None
        if with_base and self.base is not None:
            base = self._filled(room[:size], self.base, name, start)
            room = room[size:]
        if by_row:
            read = lambda expert, row: self._filled(row, self.experts[expert], name, start)  # noqa: E731
            experts = Rows(count, room[:size], read)
        else:
            experts = room[: count * size].view(count, size)
            for row, source in zip(experts, self.experts, strict=True):
                self._fill(row, source, name, start)
            experts = experts.to(self._device)
        return Part(name, self.groups[name], self.layout[name].shape, start, base, experts)

    def _filled(self, row: Tensor, source: Source, name: str, start: int) -> Tensor:
        """`row` with values of a tensor, on the device."""
        self._fill(row, source, name, start)
        return row.to(self._device)

    def _fill(self, row: Tensor, source: Source, name: str, start: int) -> None:
        if source.layout[name].dtype == row.dtype and hasattr(source, "read_into"):
            source.read_into(row, name, start)
        else:
            row.copy_(source.read(name, start, start + len(row)))


def group_of(name: str) -> str:
    """The half of the model that a tensor is of: temperature and bias of the loss go with the texts."""
    return "image" if tower_of(name) == "image" else "text"


def shapes_of(layout: Mapping[str, Entry]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {name: entry.shape for name, entry in layout.items()}


def _check_layout(layout: Mapping[str, Entry], wanted: Mapping[str, Entry], what: str) -> None:
    check_shapes(shapes_of(layout), shapes_of(wanted), what, "the last expert")
    mixed = [n for n in wanted if layout[n].dtype.is_floating_point != wanted[n].dtype.is_floating_point]
    if mixed:
        raise ValueError(
            f"cannot merge: {mixed[0]!r} is {layout[mixed[0]].dtype} in {what}, {wanted[mixed[0]].dtype} in the last "
            "expert; give checkpoints of one backbone"
        )
