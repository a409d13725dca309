"""The reference of every key of an experiment file, made from the types: docs/reference/configuration.md."""

import heapq
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from data_catalog.meanings import meaning, summary
from data_catalog.refs import Spec
from flows.experiment import ExperimentConfig
from flows.ingest import IngestConfig
from flows.living_config import LivingConfig

PAGE = Path(__file__).parents[1] / "docs/reference/configuration.md"
ROOTS = {ExperimentConfig: "An experiment", LivingConfig: "A living stream", IngestConfig: "Ingestion alone"}
BOUNDS = {
    "ge": "≥ {}",
    "gt": "> {}",
    "le": "≤ {}",
    "lt": "< {}",
    "min_length": "at least {} long",
    "pattern": "`{}`",
}
SIMPLE = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
INTRODUCTION = """# Every key of an experiment file

Made from the types by `make docs`; a test fails while it is not what they give. Keys that are not here are refused, and
a key without a default must be given. Where a key takes one of several kinds, say which: `{kind: cosine, warmup: 0.2}`.
[Experiments](../experiments.md) shows whole files, and how one extends another; the [guide](../guide.md) says what to
choose. In the places below, `*` stands for a name of yours, and `start(scratch)` for a `start` of the kind `scratch`.
"""


class Place(NamedTuple):
    """Where a type can stand in a file; the plainest place of a type is the smallest."""

    variants: int  # kinds that have to be chosen for it
    depth: int
    path: str


Places = dict[type[Spec], Place]


def page() -> str:
    """The whole page, as it should be committed."""
    places = _places()
    at: dict[str, list[type[Spec]]] = {}
    for spec in _in_order_of_the_file(places):
        at.setdefault(places[spec].path, []).append(spec)
    contents = " · ".join(f"[{_title(path)}](#{_anchor(path)})" for path in at)
    return "\n".join([INTRODUCTION, contents + "\n", *(_section(path, specs, places) for path, specs in at.items())])


def missing() -> list[str]:
    """The fields that say nothing about what they mean."""
    return [f"{spec.__module__}.{spec.__name__}.{name}"
            for spec in _places() for name in _shown(spec) if not _meaning(spec, name)]  # fmt: skip


def _places() -> Places:
    """Every type of the configuration with the plainest of its places."""
    found: Places = {}
    turn = count()  # of equal places the first stays
    queue = [(Place(0, 0, title), next(turn), root) for root, title in ROOTS.items()]
    while queue:
        place, _, spec = heapq.heappop(queue)
        if spec in found:
            continue
        found[spec] = place
        for inner, member in _inside(spec, place):
            heapq.heappush(queue, (inner, next(turn), member))
    return found


def _inside(spec: type[Spec], place: Place) -> Iterator[tuple[Place, type[Spec]]]:
    """What stands in a type that stands at `place`, and where."""
    kind = _kind(spec)
    prefix = "" if spec in ROOTS else f"{place.path}({kind})." if kind else f"{place.path}."
    for name in _shown(spec):
        annotation = spec.model_fields[name].annotation
        path = f"{prefix}{name}{_repeated(annotation)}"
        for member in _specs(annotation):
            yield Place(place.variants + bool(kind), place.depth + 1, path), member


def _in_order_of_the_file(places: Places) -> list[type[Spec]]:
    """The types as somebody who reads a file from its top meets them."""
    order: dict[type[Spec], None] = {}

    def visit(spec: type[Spec]) -> None:
        order[spec] = None
        for place, member in _inside(spec, places[spec]):
            if place.path == places[member].path and member not in order:
                visit(member)

    for root in ROOTS:
        visit(root)
    return list(order)


def _shown(spec: type[Spec]) -> list[str]:
    """The keys of a type; of a living stream those that it has otherwise than any experiment."""
    own = vars(spec)["__annotations__"] if spec is LivingConfig else spec.model_fields
    return [name for name in own if name != "kind"]


def _specs(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, Spec):
        yield annotation
    for argument in get_args(annotation):
        yield from _specs(argument)


def _repeated(annotation: Any) -> str:
    """How the place of one of several says so."""
    origins = {get_origin(part) for part in (annotation, *get_args(annotation))}
    return ".*" if dict in origins else "[]" if tuple in origins else ""


def _kind(spec: type[Spec]) -> str | None:
    return spec.model_fields["kind"].default if "kind" in spec.model_fields else None


def _title(path: str, kind: str | None = None) -> str:
    shown = path if path in ROOTS.values() else f"`{path}`"
    return f"{shown}: `{kind}`" if kind else shown


def _anchor(path: str, kind: str | None = None) -> str:
    """The anchor that GitHub makes of a heading."""
    kept = (sign for sign in _title(path, kind).lower() if sign.isalnum() or sign in " -_")
    return "".join(kept).replace(" ", "-")


def _section(path: str, specs: list[type[Spec]], places: Places) -> str:
    """What can stand at one place: the keys of its only type, or its kinds with the keys of each."""
    if _kind(specs[0]) is None:
        return "\n".join([f"## {_title(path)}", "", *_described(specs[0], places)])
    lines = [f"## {_title(path)}", "", "| kind | |", "|---|---|"]
    lines += [f"| [{_kind(spec)}](#{_anchor(path, _kind(spec))}) | {_cell(summary(spec))} |" for spec in specs]
    for spec in specs:
        lines += ["", f"### {_title(path, _kind(spec))}", "", *_described(spec, places)[:-1]]
    return "\n".join([*lines, ""])


def _described(spec: type[Spec], places: Places) -> list[str]:
    lines = [_prose(spec.__doc__ or ""), ""]
    if spec is LivingConfig:
        lines += ["All keys of an experiment, and:", ""]
    if rows := [_row(spec, name, places) for name in _shown(spec)]:
        lines += ["| key | takes | default | meaning |", "|---|---|---|---|", *rows, ""]
    return lines


def _row(spec: type[Spec], name: str, places: Places) -> str:
    field = spec.model_fields[name]
    takes = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    cells = (f"`{name}`", _takes(takes, places), _default(field), _meaning(spec, name))
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return _prose(text).replace("|", "\\|")


def _prose(text: str) -> str:
    """On one line, and with signs that would be taken for tags as what they are."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if inside % 2 else part.replace("<", "&lt;") for inside, part in enumerate(parts))


def _meaning(spec: type[Spec], name: str) -> str:
    """What is written about a field, or else about the only type it takes."""
    members, said = list(_specs(spec.model_fields[name].annotation)), meaning(spec, name)
    if len(members) != 1 or (said and not said.startswith("null")):
        return said
    return "; ".join(filter(None, [summary(members[0]).rstrip("."), said]))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return ""
    return f"`{_flow(field.get_default(call_default_factory=True))}`"


def _flow(value: Any) -> str:
    """A value as it is written in a file, on one line."""
    if isinstance(value, Spec):
        kind = {"kind": _kind(type(value))} if _kind(type(value)) else {}
        return _flow(kind | {name: getattr(value, name) for name in value.model_dump(exclude_defaults=True)})
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) or '""'


def _takes(annotation: Any, places: Places) -> str:
    """The type of a field in words, with its range and a link to the types it is made of."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return ", ".join(
            [_takes(arguments[0], places), *(bound for extra in arguments[1:] for bound in _bounds(extra))]
        )
    if origin is Literal:
        return " or ".join(f"`{_flow(choice)}`" for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_takes(part, places) for part in arguments))
    if origin is tuple:
        each = _takes(arguments[0], places)
        return f"list of ({each})" if arguments[-1] is ... else f"list of {len(arguments)} times {each}"
    if origin is dict:
        return f"mapping of ({_takes(arguments[0], places)}) to ({_takes(arguments[1], places)})"
    if annotation in places:
        return f"[{'a kind' if _kind(annotation) else 'keys'}](#{_anchor(places[annotation].path)})"
    return "null" if annotation is NoneType else SIMPLE[annotation]


def _bounds(extra: Any) -> Iterator[str]:
    for each in extra.metadata if isinstance(extra, FieldInfo) else (extra,):
        for name, words in BOUNDS.items():
            if (value := getattr(each, name, None)) is not None:
                yield words.format(f"{value:g}" if isinstance(value, float) else value)  # 0 and 0.0 are one bound


def main() -> None:
    """Write the page; raises ValueError that lists the fields which nobody explained."""
    if silent := missing():
        raise ValueError(f"no meaning is written beside {', '.join(silent)}: add a comment or a description")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())


if __name__ == "__main__":
    sys.exit(main())
