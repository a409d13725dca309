"""What a merge is going to do, known from the headers of its files: sizes, passes, memory, and what to mind."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch

from data_catalog.refs import Spec
from models.merging.checks import blocks_for_lines, check_device, check_experts
from models.merging.engine import passes_of
from models.merging.geometry import check_layouts
from models.merging.opened import Opened
from models.merging.parts import Inputs
from models.merging.ranks import Selection
from models.merging.technique import Technique
from models.merging.ties_of_names import drawn_as
from models.tensor_files import TensorFile

_LIBRARIES = 750  # megabytes: PyTorch and what the command brings along, as measured
_RANKING = 150  # megabytes: of parts being counted, for techniques that look for thresholds
_PARTS = 6  # in memory at once: read ahead, combined, and what is made meanwhile


class PlannedInput(Spec):
    """One set of weights that enters."""

    role: str
    name: str
    megabytes: float  # 10^6 bytes
    types: str
    tensors: int
    parameters: int
    note: str = ""


class Plan(Spec):
    """A merge before it runs."""

    inputs: tuple[PlannedInput, ...]  # the base first
    halves: dict[str, int]  # values of the image and of the text half
    passes: int  # how often a half of the inputs is read
    read_megabytes: float
    scratch_megabytes: float  # for inputs that become safetensors files first
    output_megabytes: float
    expected_peak_megabytes: float
    warnings: tuple[str, ...]


def plan(technique: Technique, base: Opened, experts: Sequence[Opened], newest: int = -1, device: str = "cpu") -> Plan:
    """Check that a merge can be done, from headers; raises ValueError for whatever the merge would refuse by them.

    Only where random numbers are drawn a few values are read too, to find tied tensors.
    """
    check_device(device)
    check_layouts([base, *experts])
    if not -len(experts) <= newest < len(experts):
        raise ValueError(f"newest is {newest}, expected the position of one of {len(experts)} experts, from 0, or -1")
    check_experts(technique, len(experts))
    inputs = Inputs(base if technique.needs_base() else None, experts)
    halves = inputs.sizes()
    passes = max((passes_of(technique, size, inputs.dtype) for size in halves.values()), default=1)
    read = [*experts, *([base] if technique.needs_base() else [])]
    return Plan(
        inputs=[_input("base", base), *(_input(f"expert {i}", expert) for i, expert in enumerate(experts))],
        halves=halves,
        passes=passes,
        read_megabytes=_megabytes(passes * sum(each.size for each in read)),
        scratch_megabytes=_megabytes(sum(each.size for each in (base, *experts) if each.write)),
        output_megabytes=_megabytes(experts[newest].size),
        expected_peak_megabytes=_peak(technique, inputs),
        warnings=_warnings(technique, inputs, base, experts, newest),
    )


def _input(role: str, opened: Opened) -> PlannedInput:
    floats = [entry for entry in opened.layout.values() if entry.dtype.is_floating_point]
    return PlannedInput(
        role=role,
        name=opened.given,
        megabytes=_megabytes(opened.size),
        types=", ".join(_types(opened)),
        tensors=len(opened.layout),
        parameters=sum(entry.numel for entry in floats),
        note=opened.note,
    )


def _types(opened: Opened) -> list[str]:
    return sorted({str(entry.dtype).removeprefix("torch.") for entry in opened.layout.values()})


def _megabytes(size: float) -> float:
    return round(size / 1e6, 3)


def _peak(technique: Technique, inputs: Inputs) -> float:
    """Of the process; statistics of whole matrices and counts of values come on top of the parts."""
    count = (1 if technique.BY_ROW else len(inputs.experts)) + technique.needs_base()
    values = _PARTS * count * inputs.part_length(technique.needs_base(), technique.BY_ROW)
    if technique.WHOLE:
        values += (2 * count + 4) * max((inputs.layout[name].numel for name in inputs.floats), default=0)
    total = sum(entry.numel for entry in inputs.layout.values())
    parts = _megabytes(inputs.dtype.itemsize * min(values, _PARTS * (count + 1) * total))
    return _LIBRARIES + _ranking(technique, inputs) + parts


def _ranking(technique: Technique, inputs: Inputs) -> float:
    """Megabytes for finding thresholds: more with every expert and threshold."""
    halves = [(size, len(technique.ranks(size))) for size in inputs.sizes().values()]
    experts, itemsize = len(inputs.experts), inputs.dtype.itemsize
    counts = [Selection.bytes_of(ranks, experts, size, itemsize) for size, ranks in halves if ranks]
    return _RANKING + _megabytes(sum(counts)) if counts else 0.0


def _warnings(
    technique: Technique, inputs: Inputs, base: Opened, experts: Sequence[Opened], newest: int
) -> tuple[str, ...]:
    found = []
    whole = [name for name, entry in inputs.layout.items() if not entry.dtype.is_floating_point]
    if whole:
        found.append(f"{len(whole)} tensors of integers are taken from expert {newest % len(experts)}: {_few(whole)}")
    kinds = {tuple(_types(each)) for each in (base, *experts)}
    if len(kinds) > 1:
        found.append(f"inputs are of different types; the result has those of expert {newest % len(experts)}")
    if torch.float16 in {entry.dtype for entry in experts[newest].layout.values()}:
        found.append("the result is float16, which ends at 65,504; arithmetic is in float32")
    if len(inputs.sizes()) == 1:
        found.append(f"all tensors count as the {next(iter(inputs.sizes()))} half, by their names")
    gain = technique.gain(len(experts))
    if gain > 1 + 1e-9:
        found.append(f"equal task vectors come out {gain:g} times as long; lower `scale` if they point the same way")
    if blocks := blocks_for_lines(technique, inputs.floats):
        counted = " and ".join(f"{count or 'no'} blocks of the {tower} tower" for tower, count in blocks.items())
        found.append(f"`lines` gives lengths to {counted}; its `alpha` to all else")
    if technique.USES_RANDOM:
        found += ["random numbers decide; the seed says which", *_ties(technique, base, experts)]
    return tuple(found)


def _ties(technique: Technique, base: Opened, experts: Sequence[Opened]) -> list[str]:
    """Which tensors share their random numbers, being equal in all inputs."""
    if any(each.write for each in (base, *experts)):
        return ["tensors equal in all inputs share random numbers; which ones shows once all are one safetensors file"]
    with ExitStack() as stack:
        origin, *files = [stack.enter_context(TensorFile(each.files[0])) for each in (base, *experts)]
        twins = drawn_as(technique, Inputs(origin if technique.needs_base() else None, files))
    pairs = [f"{name!r} those of {first!r}" for name, first in twins.items()]
    return [f"equal tensors share random numbers: {_few(pairs)}"] if pairs else []


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
