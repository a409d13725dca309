"""Several processes that train one model, each on its own rows of every batch.

The global batch is cut into equal parts in rank order, and every process sees the features of all rows, so a loss means
what it means in one process: gradients flow back to the process that embedded a row, and are averaged afterwards. Both
a loss that each process takes of its share of the rows and one that all take of all rows come out right:
the gradient of their mean over the processes. (open_clip's `ClipLoss` halves or turns them at its defaults.)
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives  # private; the public one is deprecated
from torch import Tensor, nn

BUCKET = 25 * 2**20  # bytes of gradients that travel together, as in DistributedDataParallel
Progress = Callable[[int, int, float], None]  # iterations done, iterations in all, latest loss
HANG_SECONDS = 600.0  # that a process waits for the others, unless the launch says otherwise


@dataclass(frozen=True)
class Ranks:
    """Which of `size` processes this is. Of one process everything here does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and tells."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's rows of `count`; raises ValueError where they cannot be shared equally."""
        if count % self.size:
            raise ValueError(
                f"the batch has {count} rows, which {self.size} processes cannot share equally: take a `batch_size` "
                f"that is a multiple of {self.size}, or another number of processes"
            )
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def everywhere(self, *own: Tensor) -> tuple[Tensor, ...]:
        """The rows [own, ...] of all processes, in rank order [all, ...]; in one go, with the gradient of each row.

        All must be of one type and as many rows in every process.
        """
        if self.size == 1:
            return own
        flat = [rows.flatten(1) if rows.dim() > 1 else rows[:, None] for rows in own]
        joined = collectives.all_gather_tensor_autograd(torch.cat(flat, dim=1).contiguous(), 0, dist.group.WORLD)
        joined = joined.wait() if isinstance(joined, collectives.AsyncCollectiveTensor) else joined
        parts = joined.split([rows.shape[1] for rows in flat], dim=1)
        return tuple(part.reshape(len(part), *rows.shape[1:]) for part, rows in zip(parts, own, strict=True))

    def mean(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The means over the processes of numbers []."""
        if self.size == 1:
            return values
        stacked = torch.stack(values)
        dist.all_reduce(stacked)
        return tuple((stacked / self.size).unbind())

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place; of numbers without gradient."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Whether any process says so, of each; the same answer everywhere."""
        if self.size == 1:
            return flags
        told = torch.tensor(flags, dtype=torch.int32, device="cpu")
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return tuple(told.bool().tolist())

    def gathered(self, value: Any) -> list[Any]:
        """What every process says, in rank order."""
        if self.size == 1:
            return [value]
        found = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def from_first(self, value: Any) -> Any:
        """What the first process says, everywhere."""
        if self.size == 1:
            return value
        told = [value]
        dist.broadcast_object_list(told, src=0)
        return told[0]


ALONE = Ranks()


@contextmanager
def joined(hang_seconds: float = HANG_SECONDS) -> Iterator[Ranks]:
    """The processes of this launch, by the variables that torchrun sets, or the group that a caller has made.

    One that waits longer than `hang_seconds` for another, which died or hangs, raises; nobody waits for ever.
    """
    if dist.is_initialized():  # Ray Train has done it
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=hang_seconds))
    try:
        yield Ranks(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


class GradientMean:
    """Puts the mean over the processes in the place of gradients, most of them while others are still computed.

    What DistributedDataParallel does, which knows one forward and one backward pass of one module: here losses reach
    weights directly too, and a batch may come in parts. Which gradients come when is learnt in the first iteration.
    """

    def __init__(self, ranks: Ranks, parameters: Sequence[nn.Parameter]):
        self._ranks, self._parameters = ranks, list(parameters)
        self._place = {parameter: place for place, parameter in enumerate(self._parameters)}
        self._came: list[int] | None = None  # places in the order in which gradients came, in a pass that is averaged
        self._buckets: list[list[int]] = []
        self._bucket_of: dict[int, int] = {}
        self._missing: list[int] = []  # per bucket, gradients that have not come yet
        self._sent: list[tuple[dist.Work, Tensor, list[Tensor]]] = []
        if ranks.size > 1:
            for parameter in self._parameters:
                parameter.register_post_accumulate_grad_hook(self._arrived)

    @contextmanager
    def of_this_pass(self) -> Iterator[None]:
        """Average what the gradients are after the backward pass in the block, the last one of an iteration."""
        if self._ranks.size == 1:
            yield
            return
        self._came, self._sent, self._missing = [], [], [len(bucket) for bucket in self._buckets]
        try:
            yield
            if not self._buckets:
                self._learn()
            for bucket in self._buckets[len(self._sent) :]:
                self._send(bucket)
            self._put()
        finally:
            self._came = None

    def _arrived(self, parameter: nn.Parameter) -> None:
        if self._came is None:
            return
        place = self._place[parameter]
        self._came.append(place)
        if place in self._bucket_of:
            self._missing[self._bucket_of[place]] -= 1
            while len(self._sent) < len(self._buckets) and not self._missing[len(self._sent)]:
                self._send(self._buckets[len(self._sent)])  # in one order everywhere

    def _learn(self) -> None:
        """Gather gradients in buckets by when they come, as the first process saw it; those that never come last."""
        came = self._ranks.from_first(list(dict.fromkeys(self._came)))
        order = came + [place for place in range(len(self._parameters)) if place not in {*came}]
        kinds: dict[tuple, list[int]] = {}
        for place in order:
            weight = self._parameters[place]
            kinds.setdefault((weight.dtype, place in {*came}), []).append(place)
        for places in kinds.values():
            self._buckets += _parts(places, [self._parameters[place].nbytes for place in places])
        self._bucket_of = {place: number for number, bucket in enumerate(self._buckets) for place in bucket}

    def _send(self, bucket: list[int]) -> None:
        gradients = [self._parameters[place].grad for place in bucket]
        present = [gradient for gradient in gradients if gradient is not None]  # no process's loss reaches the others
        flat = torch.cat([gradient.flatten() for gradient in present]) if present else torch.zeros(0)
        work = dist.all_reduce(flat, async_op=True) if present else None
        self._sent.append((work, flat, present))

    def _put(self) -> None:
        for work, flat, gradients in self._sent:
            if work is not None:
                work.wait()
                flat /= self._ranks.size
                parts = flat.split([gradient.numel() for gradient in gradients])
                torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


def _parts(places: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Neighbours together, in at most BUCKET bytes."""
    parts, filled = [], BUCKET + 1
    for place, size in zip(places, sizes, strict=True):
        if filled + size > BUCKET:
            parts.append([])
            filled = 0
        parts[-1].append(place)
        filled += size
    return parts
