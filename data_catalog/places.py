"""Where things lie: every location comes from the environment, since it does not change results."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from data_catalog.files import absolute, is_url, join
from data_catalog.object_storage import checked_url
from data_catalog.store_files import make_folder, write_atomically


def home() -> Path:
    """The folder that holds everything a run leaves behind (EVERGREEN_HOME, by default ./var)."""
    return Path(os.environ.get("EVERGREEN_HOME", "var")).resolve()


def store_root() -> Path:
    """The artifact store (EVERGREEN_STORE, by default `store` in the home).

    If that is in object storage, the folder of what this machine keeps of it: EVERGREEN_STORE_CACHE, by default
    `store-cache` in the home, with a folder of its own for each URL.
    """
    if (url := store_url()) is not None:
        return _kept_of(url, os.environ.get("EVERGREEN_STORE_CACHE", home() / "store-cache"))
    return Path(os.environ.get("EVERGREEN_STORE", home() / "store")).resolve()


def store_url() -> str | None:
    """The URL of a store in object storage, None for a folder; raises ValueError."""
    return _url_in("EVERGREEN_STORE")


def catalog_path() -> Path:
    """The DuckDB file (EVERGREEN_CATALOG, by default `catalog.duckdb` in the home); for DuckLakes `catalog_place`."""
    return Path(os.environ.get("EVERGREEN_CATALOG", home() / "catalog.duckdb")).resolve()


def results_root() -> Path:
    """The result records of the cached tasks (EVERGREEN_RESULTS, by default `results` in the home).

    If that is in object storage, the folder of what this machine keeps of it, in `results-cache` of the home.
    """
    if (url := results_url()) is not None:
        return _kept_of(url, home() / "results-cache")
    return Path(os.environ.get("EVERGREEN_RESULTS", home() / "results")).resolve()


def results_url() -> str | None:
    """The URL of result records in object storage, None for a folder; raises ValueError."""
    return _url_in("EVERGREEN_RESULTS")


def decoded_root() -> Path | None:
    """Where decoded images are kept for the next evaluation (EVERGREEN_DECODED); by default, None: nowhere."""
    named = os.environ.get("EVERGREEN_DECODED")
    return Path(named).resolve() if named else None


def register_source(name: str, root: str | Path) -> None:
    """Remember that shards called `<name>/...` lie under `root`, a folder or a URL; tables hold only the relative name.

    This process and its children stay with `root`, whatever another run in the same home registers meanwhile.
    """
    place = {name: absolute(str(root))}
    os.environ["EVERGREEN_SOURCES"] = json.dumps(_pinned() | place)
    known = _registered()
    if known | place != known:
        with _sole_writer(_register()):
            write_atomically(_register(), json.dumps(_registered() | place, indent=1).encode())


def locate_shard(shard: str) -> str:
    """The path or URL behind `<source>/<relative path>`; EVERGREEN_SOURCES (a JSON object) overrides the register.

    Raises ValueError with the known sources if `<source>` has never been ingested from this home.
    """
    source, _, relative = shard.partition("/")
    root = _pinned().get(source) or _registered().get(source)  # asked for once per image
    if root is None:
        known = sorted(_registered() | _pinned())
        raise ValueError(
            f"{shard!r} is no file, and no source {source!r} was ingested, known: {known}; run its ingest, "
            "or set EVERGREEN_SOURCES='{\"" + source + '": "/path"}\''
        )
    return join(root, relative)


def located(path: str) -> str:
    """`path` itself if it exists or is a plain name, else the file that `<source>/<relative path>` stands for."""
    if Path(path).exists() or "/" not in path or Path(path).is_absolute():
        return path
    return locate_shard(path)


def _url_in(name: str) -> str | None:
    given = os.environ.get(name, "")
    return checked_url(given, name) if is_url(given) else None


def _kept_of(url: str, folder: str | Path) -> Path:
    """Bytes by digest are the same everywhere, but what is in one bucket need not be in another."""
    return Path(folder).resolve() / sha256(url.encode()).hexdigest()[:12]


@contextlib.contextmanager
def _sole_writer(path: Path) -> Iterator[None]:
    """Hold a lock beside `path`, which the kernel drops with its holder, so that no other writer's entry is lost."""
    make_folder(path.parent)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _register() -> Path:
    return home() / "sources.json"


def _pinned() -> dict[str, str]:
    return _parse(os.environ.get("EVERGREEN_SOURCES", "{}"))


@lru_cache(maxsize=4)
def _parse(text: str) -> dict[str, str]:
    return json.loads(text)


def _registered() -> dict[str, str]:
    try:
        stat = _register().stat()
    except FileNotFoundError:
        return {}
    return _read_register(str(_register()), stat.st_mtime_ns, stat.st_size, stat.st_ino)


@lru_cache(maxsize=4)
def _read_register(path: str, mtime_ns: int, size: int, inode: int) -> dict[str, str]:
    """Asked for once per image: parsed once per change."""
    return json.loads(Path(path).read_text())
