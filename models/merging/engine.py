"""Carries out a merge: passes over the inputs for what must be known first, then part by part to the result.

Memory holds a few parts, however large the experts are, and for each a table of a megabyte or two where thresholds are
looked for; results do not depend on the number of threads.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from data_catalog.store_files import replacing
from models.merging.checks import blocks_for_lines, check_device, check_experts
from models.merging.electing import MOST_PATCHES
from models.merging.parts import InMemory, Inputs, Part, Source
from models.merging.ranks import Selection
from models.merging.spanning import Spanning
from models.merging.stored_statistics import StoredStatistics
from models.merging.technique import Found, Technique
from models.merging.ties_of_names import drawn_as
from models.merging.workers import Workers
from models.tensor_files import TensorFile, TensorFileWriter
from models.towers import layers_of
from models.weights import Weights

Put = Callable[[str, int, Tensor], None]  # tensor, where in it, values
Progress = Callable[[float], None]  # share that is done


def merge_files(
    technique: Technique,
    base: Path,
    experts: Sequence[Path],
    output: Path,
    *,
    seed: int = 0,
    newest: int = -1,
    statistics: Sequence[Path] = (),
    progress: Progress | None = None,
    device: str = "cpu",
) -> None:
    """Merge safetensors files into another one, which is there whole or not at all.

    `newest`: the expert that integers and types are taken from; `statistics`: a file per expert, for techniques that
    use them; `device`: where parts are combined. Raises ValueError for inputs that do not fit together, for results
    that are not finite and for a device that is not there.
    """
    check_device(device)
    with ExitStack() as stack:
        sources = [stack.enter_context(TensorFile(path)) for path in experts]
        origin = stack.enter_context(TensorFile(base))
        known = [stack.enter_context(TensorFile(path)) for path in statistics]
        merge = _Merge(technique, Inputs(origin, sources, device), seed, newest, known, progress)
        temporary = stack.enter_context(replacing(output))
        writer = TensorFileWriter(temporary, merge.kinds())
        stack.callback(writer.close)
        merge.run(writer.write)


def merge_in_memory(
    technique: Technique, base: Weights, experts: Sequence[Weights], seed: int = 0, newest: int = -1
) -> dict[str, Tensor]:
    """`merge_files` of tensors that are in memory, by the same arithmetic; `base` may lack where it is not used."""
    origin = InMemory(base) if technique.needs_base() else None
    merge = _Merge(technique, Inputs(origin, [InMemory(expert) for expert in experts]), seed, newest, (), None)
    merged = {name: torch.empty(shape, dtype=dtype) for name, (dtype, shape) in merge.kinds().items()}
    merge.run(lambda name, start, values: merged[name].view(-1)[start : start + len(values)].copy_(values))
    return merged


def passes_of(technique: Technique, count: int, dtype: torch.dtype = torch.float32) -> int:
    """How many times a merge reads every input: a half of `count` values; one more if signs cancel."""
    if isinstance(technique, Spanning):
        return 2
    if not technique.ranks(count):
        return 1
    return 3 if dtype != torch.float64 else 5


class _Merge:
    """One merge of checked inputs."""

    def __init__(
        self,
        technique: Technique,
        inputs: Inputs,
        seed: int,
        newest: int,
        statistics: Sequence[Source],
        progress: Progress | None,
    ):
        self.technique, self.inputs, self.newest = technique, inputs, inputs.experts[newest]
        self._with_base, self._progress, self._shown = technique.needs_base(), progress, 0.0
        count = len(inputs.experts)
        check_experts(technique, count)
        blocks_for_lines(technique, inputs.floats)
        self._statistics = StoredStatistics.of(technique, inputs, statistics)
        self.found = Found(count, seed, layers_of(list(inputs.layout)), drawn_as(technique, inputs))

    def kinds(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Types and shapes of the result."""
        return {name: (entry.dtype, entry.shape) for name, entry in self.newest.layout.items()}

    def run(self, put: Put) -> None:
        """Look at the inputs as often as it takes, then give every value to `put`, from several threads."""
        for name, entry in self.newest.layout.items():
            if name not in self.inputs.floats and entry.numel:
                put(name, 0, self.newest.read(name))
        with Workers() as self._workers:
            if self._is_single():
                self._each(self.inputs.floats, 1.0, lambda part: self._put(put, part, part.experts[0]))
            elif isinstance(self.technique, Spanning):
                self._span(put)
            else:
                surveys = self._rank(0.6)
                self._combine(self.inputs.floats, put, 1 - surveys)
                self._settle(put)

    def _is_single(self) -> bool:
        """Whether there is one expert only, of a technique that returns it as it is."""
        return len(self.inputs.experts) == 1 and self.technique.keeps_one()

    def _combine(self, names: Sequence[str], put: Put, share: float) -> None:
        def see(part: Part) -> None:
            self._put(put, part, self.technique.combine(part, self.found))

        self._each(names, share, see, self.technique.BY_ROW)

    def _settle(self, put: Put) -> None:
        """Write the values that take the sign of the majority of their half, which is known now."""
        found = self.found
        found.majority = {group: 1 if total > 0 else -1 for group, total in found.signs.items()}
        for group, count in found.cancelled.items():
            if count > MOST_PATCHES:
                self._combine([name for name in self.inputs.floats if self.inputs.groups[name] == group], put, 0.0)
                continue
            for patch in found.patches.get(group, ()):
                values = patch.positive if found.majority[group] > 0 else patch.negative
                for at, value in zip(patch.positions.tolist(), values.to(self._kind(patch.name)), strict=True):
                    put(patch.name, at, value[None])

    def _kind(self, name: str) -> torch.dtype:
        return self.newest.layout[name].dtype

    def _span(self, put: Put) -> None:
        """Tensor by tensor: inner products first, then the combination; one that is a single part is read once."""
        technique, length = self.technique, self.inputs.part_length(self._with_base)
        sizes = {name: self.inputs.layout[name].numel for name in self.inputs.floats}
        small = [name for name, size in sizes.items() if size <= length]
        self._combine(small, put, share := sum(sizes[name] for name in small) / sum(sizes.values()))
        large = [name for name in sizes if name not in set(small)]
        for name in large:
            gram = None
            for part in self.inputs.parts([name], self._with_base):
                gram = technique.seen(part, gram)
            coefficients = technique.coefficients(gram)
            self._each(
                [name],
                (1 - share) * sizes[name] / sum(sizes[each] for each in large),
                lambda part, known=coefficients: self._put(put, part, technique.spanned(part, known)),
            )

    def _rank(self, share: float) -> float:
        """Find the values at the technique's ranks, half by half; returns the share of the work that was."""
        technique, count = self.technique, self.found.experts
        ranks = {group: technique.ranks(size) for group, size in self.inputs.sizes().items()}
        self.found.thresholds = {group: [[] for _ in range(count)] for group in ranks}
        bits = technique.key_bits(self.inputs.dtype)
        searches = {group: Selection([wanted] * count, bits) for group, wanted in ranks.items() if wanted}
        names = [name for name in self.inputs.floats if self.inputs.groups[name] in searches]

        def see(part: Part) -> None:
            for expert in range(count):
                searches[part.group].see(expert, technique.rank_keys(part, expert, self.found))

        passes = Selection.passes(bits) if names else 0
        for _ in range(passes):
            self._each(names, share / passes, see)
            for search in searches.values():
                search.end_pass()
        for group, search in searches.items():
            self.found.thresholds[group] = [[technique.threshold(key, bits) for key in row] for row in search.found()]
        return share if names else 0.0

    def _each(self, names: Sequence[str], share: float, see: Callable[[Part], None], by_row: bool = False) -> None:
        """Let `see` have every part of `names`, with statistics where there are some: `share` of all the work."""
        values = sum(self.inputs.layout[name].numel for name in names)

        def seen(part: Part) -> None:
            see(self._statistics.beside(part))
            with self.found.lock:
                self._shown += share * part.experts.shape[1] / values
                if self._progress:
                    self._progress(min(1.0, self._shown))

        whole = [name for name in names if self._statistics.needs_whole(name)]
        for part in self.inputs.parts(whole, self._with_base, whole=True):
            seen(part)
        rest = [name for name in names if name not in set(whole)]
        self.inputs.each(self._workers, seen, rest, self._with_base, by_row)

    def _put(self, put: Put, part: Part, values: Tensor) -> None:
        if not math.isfinite(values.sum()):  # many times faster than to look at each
            values = self._explained(part, values)
        written = values.to(kind := self._kind(part.name))
        if kind.itemsize < values.dtype.itemsize and bool((written.isinf() & values.isfinite()).any()):
            raise ValueError(
                f"the merged {part.name!r} has values up to {float(values.abs().max()):.3g}, more than "
                f"{str(kind).removeprefix('torch.')} holds: lower `scale`, or give the newest expert in a wider type"
            )
        put(part.name, part.start, written)

    def _explained(self, part: Part, values: Tensor) -> Tensor:
        """`values` with what is infinite in all experts alike, such as a mask; raises ValueError for all else."""
        stop = part.start + len(values)
        rows = [source.read(part.name, part.start, stop).to(values) for source in self.inputs.experts]
        odd = ~torch.isfinite(values)
        if not bool(odd.any()):
            return values  # finite ones whose sum is not
        if all(bool((row[odd] == rows[0][odd]).all()) for row in rows):
            return torch.where(odd, rows[0], values)
        named = {f"expert {number}": row for number, row in enumerate(rows)}
        if self._with_base and self.inputs.base is not None:
            named["the base"] = self.inputs.base.read(part.name, part.start, stop).to(values)
        bad = [name for name, row in named.items() if not bool(torch.isfinite(row).all())]
        raise ValueError(
            f"the merged {part.name!r} is not finite: "
            + (f"{bad[0]} has such values; leave that checkpoint out" if bad
               else "all inputs are, so the merged change is too long; lower `scale`")
        )  # fmt: skip
