"""Small facts kept by what they follow from, sealed, so that a damaged record is found out and made again."""

import json
import logging
from pathlib import Path

from data_catalog import shared_files
from data_catalog.places import store_root
from data_catalog.store import digest_of


def keep(folder: str, key: dict[str, object], fact: object) -> None:
    """Remember `fact`, a JSON value, under `key` in a folder of the store."""
    content = key | {"fact": fact}
    sealed = content | {"seal": _seal(content)}
    shared_files.write(_path(folder, key), json.dumps(sealed, sort_keys=True, indent=1).encode())


def find(folder: str, key: dict[str, object], what: str) -> object | None:
    """What was kept under `key`; None, with a line in the log that names `what`, if the record is damaged."""
    path = _path(folder, key)
    if (data := shared_files.read(path)) is None:
        return None
    try:
        content = json.loads(data)
        seal = content.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError):
        content = seal = None
    if content is None or seal != _seal(content):
        logging.getLogger(__name__).warning("kept %s at %s are damaged: made again", what, path)
        return None
    return content["fact"]


def _path(folder: str, key: dict[str, object]) -> Path:
    name = _seal(key)[7:]
    return store_root() / folder / name[:2] / f"{name}.json"


def _seal(content: dict[str, object]) -> str:
    return digest_of(json.dumps(content, sort_keys=True).encode())
