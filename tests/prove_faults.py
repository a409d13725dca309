"""Proves what a living stream promises when things go wrong: processes are really killed, servers really stopped.

Run it with `make prove`; `--kills N` sets how many random moments a run is killed at. It leaves nothing behind.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from data_catalog.processes import child, free_ports, wait_until_healthy  # noqa: E402
from tests.flows.living_streams import put, written  # noqa: E402

RUN = """
import json, os, signal, sys, threading, time
config, phase, delay, back = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
if back:  # a clock that went back, to whoever asks this process
    now, ns = time.time, time.time_ns
    time.time, time.time_ns = (lambda: now() - back), (lambda: ns() - int(back * 1e9))
from flows import environment
environment.open_home()
from flows.server import api
with api():
    from flows import living
    seconds = {}
    def observed(name, stage):
        def run(*given):
            if name == phase and (name != "decide" or "_scored" in seconds):  # the first finds nothing left to decide
                threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
            started = time.monotonic()
            try:
                return stage(*given)
            finally:
                seconds[name] = time.monotonic() - started
        return run
    for name in PHASES:
        setattr(living, name, observed(name, getattr(living, name)))
    print("begun", flush=True)
    outcome = living.living_stream(config)
    print(json.dumps(outcome.model_dump() | {"seconds": seconds}), flush=True)
"""
PHASES = {
    "updated": "the update",
    "advanced": "the merge",
    "_scored": "the evaluation",
    "decide": "the promotion",
    "open_step": "the choice of data",
    "show_living": "the report",
}  # fmt: skip  functions of flows.living


def main() -> None:
    """Live a short life undisturbed, then again under every fault; an assertion says what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evergreen-faults-") as folder:
        life = Life(Path(folder))
        undisturbed = life.undisturbed()
        print(
            f"undisturbed: {len(undisturbed)} steps; moments of seed {options.seed}; seconds of the last: "
            + ", ".join(f"{PHASES[name]} {seconds:.2f}" for name, seconds in life.seconds.items())
        )
        killed(life, undisturbed, options.kills, random.Random(options.seed))
        two_at_once(life, undisturbed)
        clock_went_back(life, undisturbed)
        catalog_held(life, undisturbed)
        server_restarted(life, undisturbed)


class Life:
    """Two arrivals in a home of its own for every fault, with one inbox that all of them read."""

    def __init__(self, folder: Path):
        self.folder, self.inbox, self.seconds = folder, folder / "inbox", {}
        self.config = written(folder / "living.yaml", self.inbox)
        self.first = folder / "first"  # a home in which the first arrival was lived

    def undisturbed(self) -> list[str]:
        """The digests of the candidates of a life that nothing disturbs; keeps its home after the first step."""
        put(self.inbox, 0)
        time.sleep(2.1)  # the tick within which a file's time of change is not trusted
        assert self.run(self.first)["step"] == 0
        put(self.inbox, 1)
        whole = self.home_after_first("whole")
        self.seconds = self.run(whole)["seconds"]
        return candidates(whole)

    def home_after_first(self, name: str) -> Path:
        """A copy of the home as it was after the first step."""
        home = self.folder / name
        subprocess.run(["cp", "-a", str(self.first), str(home)], check=True)
        return home

    def start(
        self, home: Path, phase: str = "", delay: float = 0, back: float = 0, **environment: str
    ) -> subprocess.Popen:
        """A run of the stream in a process of its own, which kills itself `delay` seconds into a phase."""
        own = {"EVERGREEN_HOME": str(home), "EVERGREEN_SAVE_ITERATIONS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-c", f"PHASES = {list(PHASES)}\n{RUN}", str(self.config), phase, str(delay), str(back)],
            cwd=ROOT, text=True,
            env=os.environ | own | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, home: Path, **options) -> dict:
        """The outcome of a run that nobody kills."""
        return outcome_of(self.start(home, **options))


def outcome_of(process: subprocess.Popen) -> dict:
    """What a run said at its end."""
    said, complained = process.communicate(timeout=300)
    assert process.returncode == 0, complained[-3000:]
    return json.loads(said.splitlines()[-1])


def tell(fault: str, outcome: str) -> None:
    """One line of the table of faults."""
    print(f"{fault:<36}  {outcome}", flush=True)


def killed(life: Life, undisturbed: list[str], kills: int, moments: random.Random) -> None:
    """kill -9 at random moments of every phase of the second step in turn; the next run finishes it."""
    for number, phase in zip(range(kills), itertools.cycle(PHASES), strict=False):
        home, delay = life.home_after_first(f"killed-{number}"), moments.uniform(0, life.seconds[phase])
        process = life.start(home, phase, delay)
        _, complained = process.communicate(timeout=300)
        assert process.returncode in (-signal.SIGKILL, 0), complained[-3000:]
        before = look(home)
        outcome = life.run(home)
        assert outcome["did"] in ("step", "nothing new")
        assert candidates(home) == undisturbed, "other weights than in the undisturbed life"
        after = look(home)
        assert after["deeds"] == ["start", "promote", "promote"], after
        fault = f"killed {delay:.3f} s into {PHASES[phase]}"
        when = "" if process.returncode else ", too late: the run had ended"
        tell(fault, f"found {before['stage']}, live step {before['live']}{when}; after the next run: step 1")


def two_at_once(life: Life, undisturbed: list[str]) -> None:
    """Two runs on the same arrival: one makes the step, the other waits and finds nothing left."""
    home = life.home_after_first("two")
    both = [life.start(home), life.start(home)]
    did = sorted(outcome_of(process)["did"] for process in both)
    assert did == ["nothing new", "step"], did
    assert candidates(home) == undisturbed
    tell("two runs at once", f"one {did[1]}, one {did[0]}")


def clock_went_back(life: Life, undisturbed: list[str]) -> None:
    """A clock a month behind: files and ledger come from the future, and the step is the same."""
    home = life.home_after_first("clock")
    assert life.run(home, back=30 * 86400)["step"] == 1
    assert candidates(home) == undisturbed and look(home)["deeds"] == ["start", "promote", "promote"]
    tell("clock moved back by 30 days", "the same step, the ledger in order")


def catalog_held(life: Life, undisturbed: list[str]) -> None:
    """Another program holds the catalog: the run says so and ends; the next one completes."""
    home = life.home_after_first("held")
    with holding(home / "catalog.duckdb"):
        process = life.start(home, EVERGREEN_CATALOG_WAIT_SECONDS="2")
        _, complained = process.communicate(timeout=300)
    assert process.returncode != 0 and "CatalogInUse" in complained, complained[-2000:]
    assert life.run(home)["did"] == "step" and candidates(home) == undisturbed
    tell("catalog held by another program", "the run says which and ends; the next one completes")


def server_restarted(life: Life, undisturbed: list[str]) -> None:
    """The Prefect server stops in the middle of the step and comes back: a re-run makes it at the latest."""
    home = life.home_after_first("server")
    (port,) = free_ports("127.0.0.1")
    with serving(home, port) as url:
        process = life.start(home, PREFECT_API_URL=url)
        process.stdout.readline()
        time.sleep(sum(life.seconds.values()) / 3)
    time.sleep(1)
    with serving(home, port):
        _, complained = process.communicate(timeout=300)
        ended = "went on" if process.returncode == 0 else "ended with an error"
        again = life.run(home, PREFECT_API_URL=url)["did"]
    assert candidates(home) == undisturbed, complained[-2000:]
    assert look(home)["deeds"] == ["start", "promote", "promote"]
    tell("server restarted during the step", f"the run {ended}; the next one: {again}")


def look(home: Path) -> dict:
    """What the ledgers say now; asserts that what is live is a whole checkpoint that was judged."""
    with living_in(home):
        from data_catalog import promotions, store
        from models import living

        entries = promotions.entries("colours")
        live = promotions.live_in(entries)
        assert store.is_intact(live.checkpoint), "what is live is not whole"
        if live.step is not None:
            step = living.step_at("colours", live.step)
            assert step.candidate.digest == live.checkpoint and step.verdict.outcome == "promote"
        steps, open_step = len(living.finished("colours")), living.begun("colours")
        unfinished = [path for path in (home / "store/unfinished").rglob("*.pt")]
        stage = ("in the update" if unfinished else "step begun") if open_step else (
            "before the step" if steps == 1 else "after the step"
        )  # fmt: skip
        return {"live": live.step, "deeds": [entry.deed for entry in entries], "stage": stage}


def candidates(home: Path) -> list[str]:
    """The digests of what every step proposed, all of them whole."""
    with living_in(home):
        from data_catalog import store
        from models import living

        found = [living.load_step(digest).candidate.digest for digest in living.finished("colours")]
        assert all(store.is_intact(digest) for digest in found)
        return found


def living_in(home: Path):
    """Look into a home from this process, for a block."""
    return patch.dict(os.environ, EVERGREEN_HOME=str(home))


@contextlib.contextmanager
def holding(catalog: Path) -> Iterator[None]:
    """Another program has the DuckDB file open for writing."""
    script = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(catalog)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    try:
        yield
    finally:
        process.communicate(b"")


@contextlib.contextmanager
def serving(home: Path, port: int) -> Iterator[str]:
    """A Prefect server of its own for the block."""
    from flows.environment import configure

    with living_in(home):
        configure()
        environment = os.environ | {"PREFECT_HOME": str(home / "prefect")}
    url, log = f"http://127.0.0.1:{port}/api", home / "server.log"
    server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with child(server, log, environment, patience=60) as process:
        wait_until_healthy(f"{url}/health", process, log, 120)
        yield url


if __name__ == "__main__":
    main()
