"""What a user writes of a merge, as settings of a technique: short names, those of the published code, dotted keys."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from data_catalog.refs import Spec
from flows.experiment import problems
from models.merging import AnyTechnique
from models.merging.technique import Technique

_KINDS = {
    "interpolation": "linear",
    "dare": "dare_linear",
    "breadcrumbs": "breadcrumbs_linear",
    "tall": "tall_masks",
}
_KEYS = {  # names in the code of TIME (arXiv 2412.06712) and in its tables: ours
    "q": "gamma",
    "s": "scale",
    "lambda": "mask_lambda",
    "k": "votes",
    "merge_func": "agreeing",
    "combine": "agreeing",
    "coefficients": "weights",
    "lines_alpha": "lines.alpha",
    "lines_beta": "lines.beta",
    "lines_func": "lines.shape",
    "lines_shape": "lines.shape",
}


class MergeRecipe(Spec):
    """Which files become which, and how; paths in a file of it are relative to that file."""

    technique: dict[str, Any]
    base: str
    experts: tuple[str, ...] = Field(min_length=1)  # oldest first
    output: str
    seed: int = Field(0, ge=0)
    newest: int = -1
    statistics: tuple[str, ...] = ()


def read_recipe(path: Path) -> dict[str, Any]:
    """What a recipe says, its paths resolved; raises ValueError for what is no YAML mapping."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} does not read as YAML: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no mapping; expected {', '.join(MergeRecipe.model_fields)}")
    if isinstance(found.get("technique"), str):
        found["technique"] = {"kind": found["technique"]}

    def place(name: Any) -> Any:
        return name if not isinstance(name, str) or name.startswith("sha256:") else str(path.parent / name)

    for key, value in found.items():
        if key in ("base", "output"):
            found[key] = place(value)
        elif key in ("experts", "statistics") and isinstance(value, list):
            found[key] = [place(name) for name in value]
    return found


def complete(found: Mapping[str, Any]) -> MergeRecipe:
    """The recipe of all that was given; raises ValueError saying what is missing."""
    options = {"technique": "--technique", "base": "--base", "experts": "--expert", "output": "--output"}
    if missing := [option for key, option in options.items() if not found.get(key)]:
        raise ValueError(f"a merge needs {', '.join(missing)} too; give them, or a recipe that has them")
    try:
        return MergeRecipe.model_validate(found)
    except ValidationError as error:
        raise ValueError(f"the recipe is not valid:\n{problems(error)}") from error


def settings_of(assignments: Sequence[str]) -> dict[str, Any]:
    """What `--set key=value` says, its values read as YAML; raises ValueError for what is no assignment."""
    settings = {}
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"--set is {assignment!r}, expected key=value, e.g. density=0.8")
        try:
            settings[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--set {assignment}: the value does not read as YAML; quote it for your shell") from error
    return settings


def technique_of(given: Mapping[str, Any], instead: Mapping[str, Any] | None = None) -> Technique:
    """The technique that settings with a `kind` describe, under names of ours or of the published code.

    Settings in `instead` replace those in `given`, whatever name either has. Raises ValueError naming the techniques or
    settings that there are.
    """
    classes = {found.model_fields["kind"].default: found for found in get_args(get_args(AnyTechnique)[0])}
    instead = instead or {}
    named = instead.get("kind", given.get("kind"))
    name = str(named or "").replace("-", "_")
    kind = _KINDS.get(name, name)
    if kind not in classes:
        raise ValueError(f"there is no technique {named!r}; there are {', '.join(sorted(classes))}")
    fields = [field for field in classes[kind].model_fields if field != "kind"]
    settings = _merged(_ours(kind, fields, given), _ours(kind, fields, instead))
    try:
        return TypeAdapter(AnyTechnique).validate_python({"kind": kind, **settings})
    except ValidationError as error:
        raise ValueError(f"the technique is not valid:\n{problems(error)}") from error


def _ours(kind: str, fields: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under our names, nested as ours are; raises ValueError for one that is none, or there twice."""
    settings: dict[str, Any] = {}
    for key, value in given.items():
        if key == "kind":
            continue
        path, translated = _translated(kind, key, value)
        if path[0] not in fields:
            raise ValueError(f"`{kind}` has no setting {key!r}; it has {', '.join(fields)}{_others(fields)}")
        _put(settings, path, translated, key)
    return settings


def _merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """`before` with what `after` has instead, mappings inside one another too."""
    inside = {key: _merged(before[key], value) for key, value in after.items() if _is_nested(before.get(key), value)}
    return {**before, **after, **inside}


def _is_nested(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def _translated(kind: str, key: str, value: Any) -> tuple[list[str], Any]:
    """Where a setting stands, and its value, in our words."""
    if key in ("p", "u"):
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key} is {value!r}, expected a number") from error
        if key == "p":
            return ["density"], round(1 - number, 12)  # the reference gives the share that goes
        if kind == "slerp":
            return ["weights"], [number, round(1 - number, 12)]
    return _KEYS.get(key, key).split("."), value


def _put(settings: dict[str, Any], path: Sequence[str], value: Any, key: str) -> None:
    for name in path[:-1]:
        settings = settings.setdefault(name, {})
        if not isinstance(settings, dict):
            raise ValueError(f"{key} is set inside {name}, which is set to {settings!r} too; give one of them")
    if path[-1] in settings:
        raise ValueError(f"{key} is set twice, perhaps under another name; give it once")
    settings[path[-1]] = dict(value) if isinstance(value, Mapping) else value


def _others(fields: Sequence[str]) -> str:
    names = {theirs: ours for theirs, ours in (_KEYS | {"p": "density"}).items() if ours.split(".")[0] in fields}
    if not names:
        return ""
    return "; and, as published, " + ", ".join(f"{t} ({'1 - ' * (t == 'p')}{o})" for t, o in names.items())
