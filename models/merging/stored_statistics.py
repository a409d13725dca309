"""The statistics that experts bring to techniques which weigh them by what they learned from, read beside the parts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from models.merging.parts import Inputs, Part, Source
from models.merging.technique import Technique


class StoredStatistics:
    """One file of statistics per expert, under the names of its tensors; those of a tensor may be missing."""

    def __init__(self, sources: Sequence[Source], dtype: torch.dtype, whole: bool):
        self._sources, self._dtype, self._whole = sources, dtype, whole
        self._names = set(sources[0].layout) if sources else set()

    @classmethod
    def of(cls, technique: Technique, inputs: Inputs, sources: Sequence[Source]) -> "StoredStatistics":
        """Those given, checked; raises ValueError if they are not what `technique` needs."""
        kind, count = technique.USES_STATISTICS, len(inputs.experts)
        if kind is None and sources:
            raise ValueError(f"`{technique.kind}` uses no statistics, found {len(sources)}; leave them out")
        if kind is not None and len(sources) != count:
            raise ValueError(
                f"`{technique.kind}` needs the {kind} statistics of each of {count} experts, found {len(sources)}; "
                "give one per expert, in their order"
            )
        found = cls(sources, inputs.dtype, technique.WHOLE)
        for number, source in enumerate(sources):
            if odd := sorted(found._names ^ set(source.layout)):
                raise ValueError(
                    f"the statistics of experts 0 and {number} are not of the same tensors: {', '.join(odd[:3])} "
                    f"{'are' if len(odd) > 1 else 'is'} in one of them only; collect them again"
                )
        strangers = found._names - set(inputs.layout)
        if sources and (strangers or not found._names):
            raise ValueError(
                f"the statistics have no tensor in common with the experts, or others ({sorted(strangers)[:3]}): give "
                "those of checkpoints of the same backbone"
            )
        found._check_shapes(inputs)
        return found

    def _check_shapes(self, inputs: Inputs) -> None:
        for name in sorted(self._names):
            shape = inputs.layout[name].shape
            wanted = (shape[-1], shape[-1]) if self._whole and shape else shape
            for number, source in enumerate(self._sources):
                if (found := source.layout[name].shape) != wanted:
                    raise ValueError(
                        f"the statistics of expert {number} have {name!r} of shape {found}, expected {wanted}: give "
                        "those of this kind, taken of that expert"
                    )

    def needs_whole(self, name: str) -> bool:
        """Whether the tensor must come in one part."""
        return self._whole and name in self._names

    def beside(self, part: Part) -> Part:
        """`part` with its statistics, where there are some."""
        if part.name not in self._names:
            return part
        if self._whole:
            return part._replace(statistics=_Read(self._sources, part.name, self._dtype))
        stop = part.start + part.experts.shape[1]
        rows = [source.read(part.name, part.start, stop).to(self._dtype) for source in self._sources]
        return part._replace(statistics=torch.stack(rows).to(part.experts.device))


class _Read(Sequence[Tensor]):
    """A statistic per expert, each read when it is asked for."""

    def __init__(self, sources: Sequence[Source], name: str, dtype: torch.dtype):
        self._sources, self._name, self._dtype = sources, name, dtype

    def __getitem__(self, expert: int) -> Tensor:
        source = self._sources[expert]
        return source.read(self._name).to(self._dtype).view(source.layout[self._name].shape)

    def __len__(self) -> int:
        return len(self._sources)
