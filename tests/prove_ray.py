"""Proof that stages on Ray make what threads make, to the last bit, also when workers are killed in every stage.

The tiny experiment of the tests, with duplicates by embedding and a search of merges, is run by the command in homes of
its own: on threads, on two workers of Ray, again on either, then with `kill -9` of a worker in the middle of each stage
at a moment drawn from the seed, and where no second try is allowed. Ray is started by every run, on the loopback.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from unittest.mock import patch

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from flows.engines import TASKS  # noqa: E402
from tests.flows.conftest import raw_experiment  # noqa: E402
from tests.proving import command  # noqa: E402

THREADS, RAY = {"kind": "threads"}, {"kind": "ray", "workers": 2, "images": 16}  # so that datasets are in pieces
MAIN_TASK = {"ingest": "inspect_images", "captions": "caption_dataset", "embeddings": "embed_rows",
             "evaluation": "evaluate_checkpoint", "merge_search": "evaluate_candidates"}  # fmt: skip
PIECES = {"cut_new_images", "inspect_images", "embed_rows"}  # there are none on threads
SEARCH = {"kind": "grid", "techniques": [{"kind": "linear", "weights": [[0.0, 1.0], [0.7, 0.3]]}]}
LISTENS = "0A"  # a state in /proc/net/tcp; the addresses below are 127.0.0.1, it as IPv6, and ::1
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
KINDS = ["exact", "embedding"]


def main() -> None:
    """Compare the engines undisturbed, then kill; an assertion says what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="of kills in all stages")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the moments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="evergreen-ray-") as name:
        folder = Path(name)
        threads = Run(folder / "threads", THREADS).finish()
        ray = Run(folder / "ray", RAY).finish()
        assert ray.outcome == threads.outcome, "Ray made other weights or scores than threads"
        assert ray.journal == threads.journal, ray.journal - threads.journal
        assert ray.pieces["inspect_images"] > 7 and ray.pieces["embed_rows"] > 7, ray.pieces  # datasets
        tell("undisturbed", f"equal weights, scores and {threads.journal.total()} stages told; Ray cut datasets into "
             f"{dict(ray.pieces)}; threads {threads.seconds:.0f} s, Ray {ray.seconds:.0f} s")  # fmt: skip
        for engine, home in ((THREADS, folder / "ray"), (RAY, folder / "threads")):
            again = Run(home, engine).finish()
            assert again.stages["executed"] == 0 and again.outcome == threads.outcome, again.stages
            tell(f"again on {engine['kind']}, in the home of the other", f"all {again.stages['reused']} re-used")
        moments = random.Random(options.seed)
        for number in range(options.rounds):
            killed_in_every_stage(folder / f"killed-{number}", ray, moments)
        killed_for_good(folder / "given-up", ray, moments)


class Run:
    """The experiment, run by the command in a home."""

    def __init__(self, home: Path, engine: dict):
        raw = raw_experiment(
            recipes={"found": {"update": {"lr": 5e-3}, "merge": {"init": "ema", "deploy": "ema"}, "search": SEARCH}},
            stream={"ordering": {"kind": "dataset_by_dataset"}, "steps": 2, "duplicates": {"search": {"kinds": KINDS}}},
            past_weights=[], execution={"stages": engine},
        )  # fmt: skip
        raw["evaluation"]["validation"] = {"share": 0.3}
        self.home, config = home, home.with_suffix(f".{engine['kind']}.yaml")
        age_data(home, raw)
        config.write_text(yaml.safe_dump(raw))
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [command("evergreen"), "run", str(config), "--json"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env=os.environ | {"EVERGREEN_HOME": str(home), "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def end(self) -> tuple[int, str]:
        """Its exit code and what it complained of; nothing of it is left at work."""
        self.said, complained = self.process.communicate(timeout=600)
        self.seconds = time.monotonic() - self.started
        assert not self.workers(""), "workers outlive their run"
        with sqlite3.connect(self.home / "prefect/prefect.db") as server:
            query = "select name, state_type from task_run where state_type not in ('COMPLETED', 'FAILED', 'CRASHED')"
            assert not (left := server.execute(query).fetchall()), f"left on the server: {left}"
        return self.process.returncode, complained

    def finish(self) -> "Run":
        """The run, which has to end well, with what it made."""
        code, complained = self.end()
        assert code == 0, complained[-4000:]
        said = json.loads(self.said)
        self.stages = said["stages"]
        with patch.dict(os.environ, EVERGREEN_HOME=str(self.home)):
            from models.evaluation.record import find_record

            record = find_record("tiny-seed0")
        steps = [step for recipe in record.recipes for step in recipe.steps]
        self.outcome = [record.zero_shot, [(s.step_plan, s.expert, s.deployed, s.scores, s.summary) for s in steps]]
        self.journal = Counter((stage.label, stage.reused) for stage in record.stages if stage.stage not in PIECES)
        self.pieces = Counter(stage.stage for stage in record.stages if stage.stage in PIECES)
        ran = [stage for stage in record.stages if not stage.reused]
        self.took = {name: [stage.seconds for stage in ran if stage.stage == name] for name in MAIN_TASK.values()}
        return self

    def workers(self, task: str) -> list[int]:
        """The processes of Ray in this home that are at a task."""
        title = f"ray::{task}".encode()
        return [int(path.name) for path in self.processes() if _read(path / "cmdline").startswith(title)]

    def processes(self) -> list[Path]:
        """Everything that runs in this home, under /proc."""
        ours = f"EVERGREEN_HOME={self.home}\0".encode()
        return [path for path in Path("/proc").glob("[0-9]*") if ours in _read(path / "environ")]

    def open_to_others(self) -> set[str]:
        """The addresses other than the loopback's at which something of it listens, as the kernel writes them."""
        sockets = {name for path in self.processes() for name in _open_files(path / "fd")}
        tables = [Path(f"/proc/net/{name}").read_text().splitlines() for name in ("tcp", "tcp6")]
        lines = [line.split() for table in tables for line in table]
        at = {line[1].partition(":")[0] for line in lines if line[3] == LISTENS and f"socket:[{line[9]}]" in sockets}
        return at - LOOPBACK


def age_data(home: Path, raw: dict) -> None:
    """Make the images of an experiment as if long ago: what is new to the second is read once more, and not shared."""
    with patch.dict(os.environ, EVERGREEN_HOME=str(home)):
        from data_catalog.sources.synthetic import Synthetic

        made = Synthetic(**raw["sources"][0])
        if not Path(made.root()).exists():
            made.listings()
            for path in Path(made.root()).rglob("*"):
                os.utime(path, (1e9, 1e9))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # the process has ended
        return b""


def _open_files(folder: Path) -> list[str]:
    try:
        return [os.readlink(file) for file in folder.iterdir()]
    except OSError:
        return []


class Killer(threading.Thread):
    """Kills a worker of a run in each of some stages, a drawn time after it was seen at the stage."""

    def __init__(self, run: Run, stages: list[str], took: dict[str, list[float]], moments: random.Random):
        super().__init__(daemon=True)
        self.watched, self.stages, self.killed = run, stages, {}
        self.seen_open: set[str] = set()
        self.delays = {stage: moments.uniform(0, 0.8 * min(took[MAIN_TASK[stage]])) for stage in stages}
        self.start()

    def run(self) -> None:
        """Go through the stages in the order in which they come."""
        while self.watched.process.poll() is None and len(self.killed) < len(self.stages):
            for stage in self.stages:
                if stage not in self.killed and (seen := self.watched.workers(MAIN_TASK[stage])):
                    time.sleep(self.delays[stage])
                    if seen[0] in self.watched.workers(MAIN_TASK[stage]):  # else it was too late: at the next one
                        os.kill(seen[0], signal.SIGKILL)
                        self.seen_open |= self.watched.open_to_others()
                        self.killed[stage] = self.delays[stage]
            time.sleep(0.005)


def killed_in_every_stage(home: Path, undisturbed: Run, moments: random.Random) -> None:
    """One worker dies in each stage of one run, which goes on; every stage is told of once."""
    run = Run(home, RAY)
    killer = Killer(run, [*TASKS], undisturbed.took, moments)
    run.finish()
    assert run.outcome == undisturbed.outcome, "other weights or scores than in the undisturbed run"
    told, expected = (Counter(label for label, _ in each.journal.elements()) for each in (run, undisturbed))
    assert told == expected, (told - expected, expected - told)
    assert (missed := {*TASKS} - {*killer.killed}) == set(), f"no worker was caught at {missed}"
    assert not killer.seen_open, f"others than this machine can reach {killer.seen_open}"
    times = ", ".join(f"{stage} {delay:.3f} s" for stage, delay in killer.killed.items())
    tell(f"killed in each stage: {times}", f"went on, {run.seconds:.0f} s: equal weights and scores, stages told once")
    shutil.rmtree(home)


def killed_for_good(home: Path, undisturbed: Run, moments: random.Random) -> None:
    """Where no second try is allowed, the run ends with an error in words, and the next one completes."""
    run = Run(home, RAY | {"retries": 0})
    killer = Killer(run, ["embeddings"], undisturbed.took, moments)
    code, complained = run.end()
    assert killer.killed and code == 1, (code, complained[-4000:])
    last = complained.strip().splitlines()[-1]
    assert "the workers of embed_rows died" in complained and "Traceback" not in complained, complained[-4000:]
    again = Run(home, RAY).finish()
    assert again.outcome == undisturbed.outcome
    tell("killed where no second try is allowed", f"ended with code 1: {last[:100]}...")
    tell("the run after it", f"{again.stages['executed']} stages executed, {again.stages['reused']} re-used: equal")


def tell(what: str, outcome: str) -> None:
    """One line of the table."""
    print(f"{what}\n    {outcome}", flush=True)


if __name__ == "__main__":
    main()
