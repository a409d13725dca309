"""Prompts as data, one file per version: an edited prompt is a new file, for its version is in every row it made."""

from pathlib import Path

import yaml

from data_catalog.store import digest_of


def question(version: str) -> str:
    """The text of a prompt, with its fields in braces; raises ValueError that lists the versions there are."""
    path = _folder() / f"{version}.yaml"
    if not path.is_file():
        there = sorted(file.stem for file in _folder().glob("*.yaml"))
        raise ValueError(f"there is no prompt {version!r}, only {', '.join(there)}; name one of them")
    return yaml.safe_load(path.read_text(encoding="utf-8"))["question"].strip()


def version_of(version: str) -> str:
    """The version with a digest of its text, as captions carry it."""
    return f"{version}@{digest_of(question(version).encode())[7:23]}"


def _folder() -> Path:
    return Path(__file__).parent
