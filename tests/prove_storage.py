"""Proves that a living stream makes the same weights in object storage as in a folder; run by hand, minutes.

    python tests/prove_storage.py

An S3 server that fails for a fifth of all requests holds store and results. One machine takes the first step, is killed
in the second; another, whose clock is a day behind, goes on from its saved state; a third, with a clock a month ahead,
may not keep house while they are at work, and does so after that. No secret is left anywhere.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.data_catalog.faulty_service import FaultyService  # noqa: E402 needs the path
from tests.flows.living_streams import put, raw_living  # noqa: E402
from tests.proving import command  # noqa: E402

DAY = 86400
CLOCK = """
import os, time
now, ns, ahead = time.time, time.time_ns, float(os.environ["CLOCK_AHEAD"])
time.time, time.time_ns = (lambda: now() + ahead), (lambda: ns() + int(ahead * 1e9))
"""
SECRET, BUCKET = "A/Very+Secret/Key", "evergreen"
ITERATIONS = 20


def main() -> None:
    """Exits with an assertion that says what did not hold."""
    with tempfile.TemporaryDirectory(prefix="evergreen-storage-") as name, service() as (faulty, settings):
        folder, inbox = Path(name), Path(name) / "inbox"
        config = folder / "living.yaml"
        config.write_text(yaml.safe_dump(raw_living(inbox, budget={"kind": "iterations", "per_step": ITERATIONS})))
        there = settings | {
            "EVERGREEN_STORE": f"s3://{BUCKET}/store", "EVERGREEN_RESULTS": f"s3://{BUCKET}/results",
            "EVERGREEN_SAVE_ITERATIONS": "1",
        }  # fmt: skip
        machines = {name: there | {"EVERGREEN_HOME": str(folder / name)} for name in ("first", "second", "third")}
        machines["second"] |= clock_ahead(folder, -DAY)
        machines["third"] |= clock_ahead(folder, 30 * DAY)
        alone = {"EVERGREEN_HOME": str(folder / "alone")}
        put(inbox, 0)
        live(alone, config), live(machines["first"], config)
        put(inbox, 1)
        live(alone, config)
        killed_in_an_update(machines["first"], config)
        said = refused(machines["third"], "gc", "--all")  # by the service's clock, it was at work a moment ago
        assert "runs are at work on s3://" in said and states(settings), said
        print("housekeeping by a clock a month ahead:", said.strip().splitlines()[-1][:120])
        live(machines["second"], config)
        same_weights(alone, machines["second"])
        assert states(settings) == [], "states of a finished step are left"
        print(run(machines["third"], "verify"))
        print(run(machines["third"], "gc", "--all", "--dry-run").splitlines()[-1])
        no_secret_in(folder, settings)
        print(f"proved; of {faulty.asked} requests failed {faulty.faults}")


@contextlib.contextmanager
def service() -> Iterator[tuple[FaultyService, dict[str, str]]]:
    """An S3 server behind one that fails, with a bucket, and the environment that leads there."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    settings = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(settings | {"AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port())})
    import fsspec

    fsspec.filesystem("s3").mkdir(BUCKET)
    with FaultyService(*server.get_host_and_port()) as faulty:
        yield faulty, settings | {"AWS_ENDPOINT_URL": faulty.url}
    server.stop()


def started(machine: dict[str, str], *arguments: object) -> subprocess.Popen:
    """The command on a machine."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGREEN_", "AWS_"))}
    return subprocess.Popen([command("evergreen"), *map(str, arguments)], env=outside | machine, cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def run(machine: dict[str, str], *arguments: object) -> str:
    """What the command says on a machine."""
    process = started(machine, *arguments)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said[-3000:]
    assert SECRET not in said
    return said


def clock_ahead(folder: Path, seconds: float) -> dict[str, str]:
    """What makes Python's clock wrong on a machine."""
    (folder / "clock").mkdir(exist_ok=True)
    (folder / "clock/sitecustomize.py").write_text(CLOCK)
    path = os.pathsep.join(filter(None, (str(folder / "clock"), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "CLOCK_AHEAD": str(seconds)}


def refused(machine: dict[str, str], *arguments: object) -> str:
    """What the command says on a machine, where it must not do its work."""
    process = started(machine, *arguments)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 1 and SECRET not in said, said[-3000:]
    return said


def live(machine: dict[str, str], config: Path) -> str:
    """One run of the stream."""
    begun = time.monotonic()
    said = run(machine, "live", config)
    print(f"{Path(machine['EVERGREEN_HOME']).name}: a step in {time.monotonic() - begun:.0f} s")
    return said


def states(settings: dict[str, str]) -> list[str]:
    """The saved states in object storage."""
    import fsspec

    return fsspec.filesystem("s3", use_listings_cache=False).find(f"{BUCKET}/store/unfinished")


def killed_in_an_update(machine: dict[str, str], config: Path) -> None:
    """Kill a run as soon as it has shared a state of its training."""
    process = started(machine, "live", config)
    while not states(machine):
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    print("killed with", states(machine))


def same_weights(alone: dict[str, str], there: dict[str, str]) -> None:
    """Both streams have the same steps, with the same bytes."""
    program = (
        "from models import living; import json; "
        "print(json.dumps([[done['candidate'], done['arrival']['digest']] for done in living.done('colours')]))"
    )
    found = []
    for machine in (alone, there):
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("EVERGREEN_", "AWS_"))}
        out = subprocess.run([sys.executable, "-c", program], env=outside | machine, cwd=ROOT, check=True,
                             capture_output=True, text=True)  # fmt: skip
        found.append(json.loads(out.stdout))
    assert len(found[0]) == 2 and found[0] == found[1], found
    print("the same weights in a folder and in object storage:", [step[0][:19] for step in found[0]])


def no_secret_in(folder: Path, settings: dict[str, str]) -> None:
    """Look for the key in all that was written, here and there."""
    import fsspec

    driver = fsspec.filesystem("s3", use_listings_cache=False)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in paths if SECRET.encode() in path.read_bytes()]
    there = driver.find(BUCKET)
    assert not [path for path in there if SECRET.encode() in driver.cat_file(path)]
    print(f"no secret in {len(paths)} files and {len(there)} objects")


if __name__ == "__main__":
    main()
