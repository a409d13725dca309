"""The files below a local folder, a million of them in seconds, with a defined outcome for every kind of link."""

import os
from typing import NamedTuple

from data_catalog.file_stats import FileStat, faulty, local_stat


def files_below(root: str) -> dict[str, FileStat]:
    """Every file by its name relative to `root`; hidden ones are left out, nothing if there is no such folder.

    Links inside the root are followed; those that dangle, turn in circles or leave the root get a fault. Raises
    ValueError if the root cannot be listed.
    """
    real = os.path.realpath(root)
    found: dict[str, FileStat] = {}
    waiting = [_Folder("", real, real, ())] if os.path.isdir(real) else []
    while waiting:
        folder = waiting.pop()
        try:
            waiting += _scan(folder, real, found)
        except OSError as error:
            if not folder.prefix:
                raise ValueError(f"cannot list {root}: {error.strerror}; give this user access to it") from error
            found[folder.prefix.rstrip("/")] = faulty(f"is a folder that cannot be listed: {error.strerror}")
    return found


class _Folder(NamedTuple):
    """A folder on the way through a tree: its name, the path it is read by, and what it really is."""

    prefix: str
    path: str
    real: str
    trail: tuple[str, ...]  # the real folders that links were followed from


def _scan(folder: _Folder, root: str, found: dict[str, FileStat]) -> list[_Folder]:
    """Enter the files of one folder in `found` and return its folders."""
    inner = []
    with os.scandir(folder.path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            name = folder.prefix + entry.name
            if not name.isascii() and not _is_utf8(name):
                found[os.fsencode(name).decode("utf-8", "backslashreplace")] = faulty("has a name that is not UTF-8")
            elif entry.is_symlink():
                inner += _follow(folder, root, name, entry, found)
            elif entry.is_dir(follow_symlinks=False):
                inner.append(_Folder(f"{name}/", entry.path, f"{folder.real}/{entry.name}", folder.trail))
            else:
                found[name] = local_stat(entry.stat(follow_symlinks=False))
    return inner


def _follow(folder: _Folder, root: str, name: str, link: os.DirEntry, found: dict[str, FileStat]) -> list[_Folder]:
    """What a link stands for: a file entered in `found`, or a folder returned."""
    target = os.path.realpath(link.path)
    if not _is_within(target, root):
        found[name] = faulty(f"is a link that leaves {root}: make the folder that holds both the root")
    elif os.path.isdir(target):
        if not any(_is_within(passed, target) for passed in (*folder.trail, folder.real)):
            return [_Folder(f"{name}/", link.path, target, (*folder.trail, folder.real))]
        found[name] = faulty("is a link to a folder that it lies in")
    elif os.path.exists(target):
        found[name] = local_stat(os.stat(target))
    else:
        found[name] = faulty("is a link to nothing")
    return []


def _is_within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
