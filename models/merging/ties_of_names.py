"""Tensors that are one under two names, such as tied embeddings: they must draw the same random numbers."""

from models.merging.parts import Inputs
from models.merging.technique import Technique

_FIRST = 64  # values that are compared before whole tensors are


def drawn_as(technique: Technique, inputs: Inputs) -> dict[str, str]:
    """Name -> the first name under which all inputs hold the same values; only for techniques that draw."""
    if not technique.USES_RANDOM:
        return {}
    alike: dict[tuple, list[str]] = {}
    for name in inputs.floats:
        entry = inputs.layout[name]
        if entry.numel > 1:
            start = inputs.experts[-1].read(name, 0, min(_FIRST, entry.numel)).double().tolist()
            alike.setdefault((entry.shape, tuple(start)), []).append(name)
    twins = {}
    for first, *others in (names for names in alike.values() if len(names) > 1):
        twins |= {other: first for other in others if _are_equal(inputs, first, other)}
    return twins


def _are_equal(inputs: Inputs, one: str, other: str) -> bool:
    sources = [*([inputs.base] if inputs.base else []), *inputs.experts]
    return all(bool((source.read(one) == source.read(other)).all()) for source in sources)
