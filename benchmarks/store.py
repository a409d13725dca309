"""Put and get MB/s of the artifact store: a folder against an S3 server on the loopback, with and without verification.

    python benchmarks/store.py [--files 4] [--megabytes 64] [--repeats 5]

The server is moto in a process of its own: it keeps objects in memory and is written in Python, so it bounds what is
measured from below, and says nothing of a network. `get` is from the store to a verified file on this machine (of the
folder: hashing it, since it lies there already); without verification the same without hashing. Medians of repeats that
take turns; random bytes, which do not compress.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from data_catalog import remote_store, store, store_cache
from data_catalog.places import store_root
from data_catalog.processes import child, free_ports, wait_until_healthy
from data_catalog.store_files import move_into_place, scratch_file

PATIENCE_SECONDS = 60


def main() -> None:
    """Prints one line of JSON per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("files", 4), ("megabytes", 64), ("repeats", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evergreen-store-") as folder:
        os.environ["EVERGREEN_HOME"] = folder
        with serving(Path(folder)):
            measure(asked.files, asked.megabytes, asked.repeats)


def measure(files: int, megabytes: int, repeats: int) -> None:
    """Take turns, so that whatever else runs here disturbs all alike."""
    kinds = {"folder": None, "s3": "s3://bench/store"}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(repeats):
        for kind, url in kinds.items():
            os.environ.pop("EVERGREEN_STORE", None)
            os.environ |= {"EVERGREEN_STORE": url} if url else {}
            for deed, taken in one_round(files, megabytes).items():
                seconds.setdefault((kind, deed), []).append(taken)
    size = files * megabytes * 2**20 / 1e6
    rates = {key: size / statistics.median(taken) for key, taken in seconds.items()}
    for (kind, deed), rate in rates.items():
        taken = seconds[kind, deed]
        against = round(rate / rates["folder", deed], 3)
        spread = [round(size / max(taken)), round(size / min(taken))]
        print(json.dumps({"store": kind, "deed": deed, "MB/s": round(rate), "range": spread, "of the folder": against}))


def one_round(files: int, megabytes: int) -> dict[str, float]:
    """Seconds of each deed on artifacts that nobody has yet."""
    content = [os.urandom(megabytes * 2**20) for _ in range(files)]
    found, digests = {}, []
    found["put"] = timed(lambda: digests.extend(map(put, content)))
    found["put, unverified"] = timed(lambda: [put_unverified(data, n) for n, data in enumerate(content)])
    forget(digests)
    found["get"] = timed(lambda: [store.locate(digest) for digest in digests])
    if (there := remote_store.storage()) is not None:
        scratch = store_root() / "fetched"
        found["get, unverified"] = timed(lambda: [there.fetch(remote_store.key_of(d), scratch) for d in digests])
        remote_store.delete(there, digests, [])
    else:
        found["get, unverified"] = timed(lambda: [store.path_of(digest).read_bytes() for digest in digests])
        for digest in digests:
            store.path_of(digest).unlink()
    return found


def put(data: bytes) -> str:
    """Store bytes as training stores weights: through a file."""
    with store.writing() as artifact:
        artifact.path.write_bytes(data)
    return artifact.digest


def put_unverified(data: bytes, number: int) -> None:
    """The same without hashing, and without a name of its own."""
    with scratch_file(store_root(), "bench") as scratch:
        scratch.write_bytes(data)
        if (there := remote_store.storage()) is not None:
            there.replace_from(f"unverified/{number}", scratch)
        move_into_place(scratch, store_root() / "unverified" / str(number))


def forget(digests: list[str]) -> None:
    """Be a machine that has nothing yet, and a process that has hashed nothing."""
    store._digest_of_file.cache_clear()
    if remote_store.storage() is not None:
        shutil.rmtree(store_root() / "objects")
        store_cache._book.cache_clear()


def timed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[None]:
    """An S3 server on a free port of the loopback, with a bucket, and the environment that leads there."""
    (port,) = free_ports("127.0.0.1")
    url, log = f"http://127.0.0.1:{port}", folder / "moto.log"
    os.environ |= {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
                   "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    with child(["moto.server", "-H", "127.0.0.1", "-p", str(port)], log) as process:
        wait_until_healthy(f"{url}/moto-api/", process, log, PATIENCE_SECONDS)
        import fsspec

        fsspec.filesystem("s3").mkdir("bench")
        yield


if __name__ == "__main__":
    main()
