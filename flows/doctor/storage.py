"""Where bytes lie: folders and object storage that can be written to, locks, room, the catalog and the sources."""

import contextlib
import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from data_catalog import disk, places
from data_catalog.catalog_place import LAKE
from data_catalog.files import is_url
from data_catalog.outage import CatalogInUse, Outage
from flows.doctor.answers import SECONDS, ask, same_clock
from flows.doctor.findings import Asked, Finding, cleaned, fail, ok, warn

STATES = 3  # of an unfinished update that lie beside each other
TIMES = 3  # what a state takes of its weights: they and two moments of AdamW
LEFT = 3  # what a step leaves: the expert, its merge, what the method remembers
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL")
WAIT = "EVERGREEN_CATALOG_WAIT_SECONDS"


def folders(asked: Asked) -> Iterator[Finding]:
    """The home, the store and the result records."""
    for name, variable, inside in (("home", "EVERGREEN_HOME", ""), ("store", "EVERGREEN_STORE", "store"),
                                   ("results", "EVERGREEN_RESULTS", "results")):  # fmt: skip
        place = asked.environment.get(variable) or str(places.home() / inside)
        if is_url(place):
            yield from _object_storage(name, variable, place)
        else:
            yield from _folder(name, variable, Path(place))


def locks(asked: Asked) -> Iterator[Finding]:
    """Whether file locks of the home exclude others: runs, the catalog and housekeeping rely on them."""
    folder = disk.nearest(places.home())
    if not os.access(folder, os.W_OK):
        return  # which `folders` tells
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file, open(file.name) as other:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield ok("locks", f"flock works in {folder}")
            return
        except OSError as error:
            found = f"{folder} has none: {error.strerror}"
        else:
            found = f"flock in {folder} lets two in at once"
    yield fail("locks", found, "a file system with file locks",
               "put EVERGREEN_HOME on a local disk, NFS 4, CephFS or Lustre with `flock`")  # fmt: skip


def room(asked: Asked) -> Iterator[Finding]:
    """Free bytes where the store lies, against the reserve and what a step of the configuration writes at most."""
    place = asked.environment.get("EVERGREEN_STORE") or str(places.home() / "store")
    folder = places.home() if is_url(place) else Path(place)
    try:
        kept = disk.reserve()
    except ValueError as error:
        yield fail("free disk", str(error), "bytes", "correct EVERGREEN_DISK_RESERVE")
        return
    free, step = disk.free_bytes(folder), _step_bytes(asked)
    needs = f"{disk.spoken(kept)} that stay free" + (f" and about {disk.spoken(step)} for a step" if step else "")
    if free < kept + step:
        yield fail("free disk", f"{disk.spoken(free)} in {folder}", needs, "make room, e.g. with `evergreen gc --all`")
    elif free < 2 * (kept + step):
        yield warn("free disk", f"{disk.spoken(free)} in {folder}", f"more than {needs}", "make room soon")
    else:
        yield ok("free disk", f"{disk.spoken(free)} in {folder}")


def catalog(asked: Asked) -> Iterator[Finding]:
    """Whether it opens, and who holds it."""
    from data_catalog import catalog as tables

    place = asked.environment.get("EVERGREEN_CATALOG", "")
    if not place.startswith(LAKE) and not places.catalog_path().is_file():
        yield ok("catalog", f"{places.catalog_path()}: made by the first ingest")
        return
    try:
        with _waiting_briefly():
            datasets = tables.query("SELECT count(*) AS many FROM datasets")
    except CatalogInUse as held:
        yield warn("catalog", str(held), "a catalog that nobody holds for long", "wait for that process, or end it")
    except (ValueError, Outage) as error:
        yield fail(
            "catalog",
            str(error),
            "a catalog of this version",
            "evergreen catalog rebuild, or correct EVERGREEN_CATALOG",
        )
    else:
        yield ok("catalog", f"{place or places.catalog_path()}, {datasets[0]['many'] if datasets else 0} datasets")


def sources(asked: Asked) -> Iterator[Finding]:
    """Whether each source of the configuration can be listed."""
    from data_catalog.sources.synthetic import Synthetic

    for source in asked.sources:
        if isinstance(source, Synthetic):  # listing it would draw it
            yield ok(f"source {source.name}", "drawn by the program itself")
            continue
        try:
            found = source.listings()
        except (OSError, ValueError) as error:
            yield fail(f"source {source.name}", str(error), "a place that can be listed",
                       f"correct `sources` ({source.name}), or bring the data there")  # fmt: skip
            continue
        files = sum(len(listing.files) for listing in found)
        yield ok(f"source {source.name}", f"{len(found)} datasets, {files} files in {source.root()}")


def storage_clock(asked: Asked) -> Iterator[Finding]:
    """The clock of object storage at an endpoint of its own, against ours: signatures carry the time."""
    endpoint = next((asked.environment[name] for name in ENDPOINTS if asked.environment.get(name)), None)
    if endpoint is None:
        return
    try:
        answer = ask(endpoint)
    except (OSError, ValueError) as error:
        yield fail("object storage", f"{endpoint} does not answer: {error}", "an S3 endpoint",
                   "start it, or correct AWS_ENDPOINT_URL")  # fmt: skip
        return
    yield from same_clock("clock of object storage", answer.ahead_seconds)


def _folder(name: str, variable: str, folder: Path) -> Iterator[Finding]:
    """A folder in which a file can be made, renamed and deleted; one that is not there yet is not made."""
    there = disk.nearest(folder)
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-", delete=False) as file:
            file.write(b"x")
        written = os.stat(file.name).st_mtime
        os.replace(file.name, f"{file.name}-moved")
        os.unlink(f"{file.name}-moved")
    except OSError as error:
        yield fail(name, f"{there}: {error.strerror}", "a folder that this user can write to",
                   f"give it to this user, or set {variable} to another")  # fmt: skip
        return
    free = disk.free_bytes(there)
    yield ok(name, f"{folder}, {disk.spoken(free)} free" + ("" if there == folder else "; made at the first use"))
    if abs(written - time.time()) > 2:
        yield from same_clock(f"clock of the file system of {name}", written - time.time())


def _object_storage(name: str, variable: str, url: str) -> Iterator[Finding]:
    """A URL where an object can be created once, not twice, and deleted; the driver is loaded only now."""
    import fsspec

    path, help = f"{url.rstrip('/')}/.doctor-{secrets.token_hex(8)}", f"correct {variable}, or the rights of its key"
    try:
        store, inside = fsspec.url_to_fs(path, **_impatient(url))
        store.pipe_file(inside, b"x", mode="create")
        try:
            store.pipe_file(inside, b"y", mode="create")
            twice = True
        except FileExistsError:
            twice = False
        except OSError as error:
            twice = "PreconditionFailed" not in str(error) and "pre-conditions" not in str(error)
        store.rm_file(inside)
    except Exception as error:  # each driver has classes of its own
        yield fail(name, f"{url}: {type(error).__name__}: {cleaned(str(error))[:300]}",
                   "a bucket that can be written to", help)  # fmt: skip
        return
    if twice:
        yield fail(name, f"{url} writes over an object that is to be created", "conditional create (If-None-Match)",
                   "take storage that has it: Amazon S3, MinIO, Ceph from Squid on, gs:// or az://")  # fmt: skip
    else:
        yield ok(name, f"{url}: written once, refused twice, deleted")


def _impatient(url: str) -> dict:
    """Settings of the driver of S3 under which it says in seconds that nobody answers."""
    if not url.startswith(("s3://", "s3a://")):
        return {}
    times = {"connect_timeout": SECONDS, "read_timeout": SECONDS, "retries": {"max_attempts": 1}}
    return {"config_kwargs": times, "skip_instance_cache": True}


def _step_bytes(asked: Asked) -> int:
    """What a step of a living stream writes at most, by the size of what is live; 0 where nothing is known."""
    from data_catalog import promotions, store

    if asked.config is None or not (live := promotions.live(asked.config.name)):
        return 0
    weights = store.path_of(live.checkpoint)
    return (STATES * TIMES + LEFT) * weights.stat().st_size if weights.is_file() else 0


@contextlib.contextmanager
def _waiting_briefly() -> Iterator[None]:
    """Take a catalog that is held for a second for one that is held."""
    before = os.environ.get(WAIT)
    os.environ[WAIT] = "1"
    try:
        yield
    finally:
        os.environ.pop(WAIT)
        if before is not None:
            os.environ[WAIT] = before
