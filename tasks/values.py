"""What may enter and leave a cached task, as digests for its key and as JSON for its record."""

import importlib
import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from data_catalog import store
from data_catalog.refs import Spec, is_digest

PACKAGES = ("data_catalog", "models", "tasks", "flows")  # records come from disk: nothing else is imported for them
SUPPORTED = "specs, references, numbers, strings, None, and lists, tuples or dicts of them"


class UnsupportedValue(TypeError):
    """A value that has no stable content, or does not survive being stored."""


def digest_of_input(what: str, value: Any) -> str:
    """A digest of the content of `value`, equal in every process; raises UnsupportedValue that names `what`."""
    text = json.dumps(_canonical(what, value), sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def dump(value: Any) -> str:
    """`value` as JSON from which `load_intact` rebuilds it; raises UnsupportedValue."""
    return json.dumps(_encode(value))


def load_intact(text: str | bytes) -> Any:
    """The value stored as `text`; raises MissingArtifact if bytes that it names are missing or damaged."""
    document = json.loads(text)
    for digest in _digests(document):
        store.require(digest)
    return _decode(document)


def check_storable(what: str, value: Any) -> None:
    """Raise UnsupportedValue unless `value` comes back whole from its JSON."""
    try:
        text = dump(value)
        survives = dump(_decode(json.loads(text))) == text
    except ValueError as error:
        raise UnsupportedValue(f"{what} cannot be rebuilt from JSON: {error}") from error
    except UnsupportedValue as error:
        raise UnsupportedValue(f"{what}: {error}") from error
    if not survives:
        raise UnsupportedValue(f"{what} changes when it is rebuilt from JSON: {text[:200]}")


def _canonical(what: str, value: Any) -> Any:
    """Plain JSON of the content: fields one by one, since pydantic dumps sets in hash order."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Spec():
            names = type(value).model_fields
            fields = {name: _canonical(f"{what}, field `{name}`", getattr(value, name)) for name in names}
            return {"class": type(value).__name__, "fields": fields}
        case list() | tuple():
            return [_canonical(f"{what}, item {i}", item) for i, item in enumerate(value)]
        case set() | frozenset():
            items = [_canonical(f"{what}, an item", item) for item in value]
            return {"set": sorted(items, key=lambda item: json.dumps(item, sort_keys=True))}
        case dict() if all(isinstance(key, str) for key in value):
            return {"dict": {key: _canonical(f"{what}, key {key!r}", item) for key, item in value.items()}}
    raise UnsupportedValue(
        f"{what} is a {_name(type(value))}, expected {SUPPORTED}; pass a reference to stored bytes, "
        "or list the argument in `ignore` if it does not change the result"
    )


def _encode(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Spec():
            _check_importable(type(value))
            return {"class": _name(type(value)), "fields": value.model_dump(mode="json", serialize_as_any=True)}
        case list() | tuple():
            return {type(value).__name__: [_encode(item) for item in value]}
        case dict() if all(isinstance(key, str) for key in value):
            return {"dict": {key: _encode(item) for key, item in value.items()}}
    raise UnsupportedValue(f"found a {_name(type(value))}, expected {SUPPORTED}; store it and return its reference")


def _decode(document: Any) -> Any:
    match document:
        case {"class": name, "fields": fields}:
            return _class_named(name).model_validate(fields)
        case {"list": items}:
            return [_decode(item) for item in items]
        case {"tuple": items}:
            return tuple(_decode(item) for item in items)
        case {"dict": items}:
            return {key: _decode(item) for key, item in items.items()}
    return document


def _digests(document: Any) -> Iterator[str]:
    match document:
        case str() if is_digest(document):
            yield document
        case dict():
            for item in document.values():
                yield from _digests(item)
        case list():
            for item in document:
                yield from _digests(item)


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class_named(name: str) -> type[Spec]:
    module, _, qualname = name.partition(":")
    if module.partition(".")[0] not in PACKAGES:
        raise ValueError(f"a result names the class {name}, expected one from {', '.join(PACKAGES)}")
    found = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Spec)):
        raise ValueError(f"a result names {name}, which is no Spec")
    return found


def _check_importable(kind: type) -> None:
    if kind.__module__.partition(".")[0] not in PACKAGES or "<locals>" in kind.__qualname__:
        raise UnsupportedValue(f"the class {_name(kind)} cannot be found again; define it in {', '.join(PACKAGES)}")
