"""Ledgers in object storage: every addition is an object with the next number, which only one writer can create.

So the order of entries is the order of numbers, no clock and no lock decides, and a writer that dies leaves a whole
addition or none. Objects never change: a machine reads each once and asks only whether there is a further one.
"""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

from data_catalog.object_storage import ObjectStorage, storage_at
from data_catalog.places import store_root, store_url
from data_catalog.store_files import write_atomically
from data_catalog.versions import check_known

FOLDER = "ledger"


def is_used() -> bool:
    """Whether the store, and its ledgers with it, lies in object storage."""
    return store_url() is not None


def folder_of(name: str) -> Path:
    """Where this machine keeps the additions that it has read."""
    return store_root() / FOLDER / name


def names() -> list[str]:
    """The names of all ledgers."""
    return sorted({key.split("/")[1] for key in _storage().below(FOLDER)})


def entries(name: str, known_format: int) -> list[dict]:
    """Every entry, oldest first; raises ValueError for damage, and where an addition is gone."""
    return [entry for addition in _additions(name, known_format) for entry in addition]


def extend(name: str, make: Callable[[list[dict]], list[dict]], format: int) -> list[dict]:
    """Add the entries that `make` gives for what the ledger holds, all or none of them, and return them."""
    while True:
        additions = _additions(name, format)
        # entries of its own for each: `make` may change those it is given
        added = make([entry for addition in additions for entry in addition])
        if not added or _create(name, len(additions), added, format):
            return added


def _create(name: str, number: int, added: list[dict], format: int) -> bool:
    """Whether the addition with this number is ours."""
    writer = uuid.uuid4().hex
    data = json.dumps({"format": format, "writer": writer, "entries": added}, sort_keys=True).encode()
    if not _storage().create(_key(name, number), data):
        found = _storage().find(_key(name, number))
        if found is None or json.loads(found).get("writer") != writer:  # else only the answer to us got lost
            return False
    write_atomically(_file(name, number), data)
    return True


def _additions(name: str, known_format: int) -> list[list[dict]]:
    number = 0
    while _file(name, number).is_file():
        number += 1
    if (following := _storage().find(_key(name, number))) is not None:
        write_atomically(_file(name, number), following)
        _bring(name, number + 1)
    return [_parsed(path, known_format) for path in sorted(folder_of(name).glob("*.json"))]


def _bring(name: str, first: int) -> None:
    """Keep all additions from a number on; whoever lacks many of them asks for many at a time."""
    there = _storage()
    numbers = sorted(int(Path(key).stem) for key in there.below(f"{FOLDER}/{name}"))
    if numbers != list(range(len(numbers))):
        lost = next(number for number, found in enumerate(numbers) if number != found)
        raise ValueError(
            f"addition {lost} of the ledger {there.url}/{FOLDER}/{name} is gone, and later ones are there: bring it "
            "back from a version of the bucket or a backup"
        )

    def bring(key: str) -> tuple[str, bytes | None]:
        return key, there.find(key)

    found = there.each(bring, [_key(name, number) for number in numbers[first:]])
    for key, data in found:  # in order, so that a kill leaves no gap
        if data is not None:
            write_atomically(store_root() / key, data)


def _parsed(path: Path, known_format: int) -> list[dict]:
    where = f"{store_url()}/{path.relative_to(store_root())}"
    try:
        document = json.loads(path.read_bytes())
        check_known(document["format"], known_format, where)
        return document["entries"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{where}, kept in {path}, is damaged ({error}); it was whole when it was written: delete {path.parent} to "
            "read it anew, or bring the object back from a version of the bucket"
        ) from error


def _storage() -> ObjectStorage:
    return storage_at(store_url())


def _key(name: str, number: int) -> str:
    return f"{FOLDER}/{name}/{number:09d}.json"


def _file(name: str, number: int) -> Path:
    return store_root() / _key(name, number)
