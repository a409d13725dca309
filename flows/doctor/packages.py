"""Versions: what is installed against what the package asks for, and the two caps that other packages do not state."""

import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from flows.doctor.findings import Asked, Finding, fail, ok, warn
from flows.environment import SILENT

OLDEST_PYTHON = Version("3.11")
ROOT = Path(__file__).parents[2]
SETUP = "make setup, or uv pip install -r requirements.lock"
WHY = {  # what happens beyond a cap that no package states
    "fastapi": "newer ones break the server of Prefect 3.8 at its start",
    "sqlalchemy": "with 2.1 schedules of Prefect silently never fire",
    "torchvision": "it must have been built for this torch",
}
PAIR = ("torch", "torchvision")


def python(asked: Asked) -> Iterator[Finding]:
    """The interpreter."""
    found = platform.python_version()
    if Version(found) < OLDEST_PYTHON:
        yield fail("python", found, f"{OLDEST_PYTHON} or newer", "set PYTHON=/path/to/python3.11 and run make setup")
    else:
        yield ok("python", found)


def packages(asked: Asked) -> Iterator[Finding]:
    """Every dependency in the range that pyproject.toml gives, the two traps by name."""
    try:
        wanted = [Requirement(text) for text in metadata.requires("evergreen") or ()]
    except metadata.PackageNotFoundError:
        yield fail("packages", "evergreen itself is not installed", "an installed package", SETUP)
        return
    wrong = [each for each in wanted if _applies(each) and not _fits(each)]
    for each in wrong:
        why = f": {WHY[each.name]}" if each.name in WHY else ""
        yield fail(f"package {each.name}", version(each.name) or "missing", f"{each.specifier}{why}", SETUP)
    if not wrong:
        shown = ("prefect", "fastapi", "sqlalchemy", "duckdb", "mlflow")
        yield ok("packages", ", ".join(f"{name} {version(name)}" for name in shown))


def torch_pair(asked: Asked) -> Iterator[Finding]:
    """torch and torchvision: as their metadata and the lock have them, and built for the same device."""
    found = {name: version(name) or "missing" for name in PAIR}
    said, name = " and ".join(f"{name} {each}" for name, each in found.items()), "torch and torchvision"
    needs = [Requirement(text) for text in (metadata.requires("torchvision") or ()) if _is_torch(text)] if all(
        map(version, PAIR)
    ) else []  # fmt: skip
    builds = {each.partition("+")[2] for each in found.values()}
    if not needs or not all(need.specifier.contains(found["torch"], prereleases=True) for need in needs):
        yield fail(name, said, ", ".join(map(str, needs)) or "both", SETUP)
    elif len(builds) > 1:
        yield fail(name, said, "two builds for the same device", SETUP)
    elif (locked := _locked()) and any(locked[each] != found[each].partition("+")[0] for each in PAIR):
        expected = " and ".join(f"{each} {locked[each]}" for each in PAIR)
        yield warn(name, said, f"{expected}, as requirements.lock has them", SETUP)
    else:
        yield ok(name, said)


def telemetry(asked: Asked) -> Iterator[Finding]:
    """Nothing calls home: every switch that stands for it."""
    on = {name: asked.environment.get(name, "unset") for name, off in SILENT.items()
          if asked.environment.get(name, "unset") != off}  # fmt: skip
    if on:
        found = ", ".join(f"{name}={value}" for name, value in on.items())
        expected = ", ".join(f"{name}={SILENT[name]}" for name in on)
        yield warn("telemetry", found, expected, "unset these variables: commands then set them so")
    else:
        yield ok("telemetry", "switched off")


def version(name: str) -> str | None:
    """The installed version of a package, None if it is not there."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _applies(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})


def _fits(requirement: Requirement) -> bool:
    found = version(requirement.name)
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def _is_torch(text: str) -> bool:
    return Requirement(text).name == "torch"


def _locked() -> dict[str, str] | None:
    """The pair as the lock has it; None where the package is installed without its repository."""
    path = ROOT / "requirements.lock"
    if not path.is_file():
        return None
    lines = path.read_text()
    return {name: re.search(rf"^{name}==([^\s;+]+)", lines, re.MULTILINE)[1] for name in PAIR}
