"""Proves the deployments on a local server, as a user would: deploy all, start a worker, run each, read the results.

Run it with `make prove`; it takes a few minutes and leaves nothing behind.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TINY = {"pretraining_images": 60, "adaptation_images": 130, "test_images": 12}


def main() -> None:
    """Deploy, run, check; exits with an assertion that says what did not hold."""
    with tempfile.TemporaryDirectory(prefix="evergreen-prove-") as folder:
        os.environ["EVERGREEN_HOME"] = str(Path(folder) / "home")
        from flows.environment import configure

        configure()
        from flows.server import api

        with api() as url:
            prefect("work-pool", "create", "evergreen", "--type", "process")
            prefect("--no-prompt", "deploy", "--all")
            prefect("--no-prompt", "deploy", "--all")  # again: nothing doubles
            names = sorted(d["name"] + " of " + d["entrypoint"] for d in post(url, "deployments/filter", {}))
            print("deployed:", *names, sep="\n  ")
            assert len(names) == 4, names
            with worker():
                run_and_check(url, Path(folder))
    print("proved")


def run_and_check(url: str, folder: Path) -> None:
    """Run the four deployments on a tiny experiment, and the stream again."""
    config, done = tiny_experiment(folder / "tiny.yaml"), {}
    stream = "continual-pretrain/demo"
    for deployment in ("ingest/demo", stream, stream, "evaluate/demo", "merge-search/demo"):
        started = time.monotonic()
        prefect("deployment", "run", deployment, "--param", f"config={config}", "--watch")
        runs = post(url, "flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
        tasks = post(url, "task_runs/filter", {"flow_runs": {"id": {"any_": [runs[0]["id"]]}}})
        cached = sum(task["state_name"] == "Cached" for task in tasks)
        seconds = time.monotonic() - started
        print(f"{deployment}: {runs[0]['state_name']}, {len(tasks)} tasks, {cached} re-used, {seconds:.0f} s")
        assert runs[0]["state_type"] == "COMPLETED", runs[0]["state"]
        done.setdefault(deployment, []).append(cached)
    first, second = done[stream]
    assert second > first, f"the second run re-used {second} tasks, the first already {first}"
    status = json.loads(
        subprocess.run([command("evergreen"), "status", "--json"], check=True, capture_output=True).stdout
    )
    assert [row["name"] for row in status["experiments"]] == ["tiny-seed0"], status
    scheduled(url)


def scheduled(url: str) -> None:
    """A schedule fires: the deployment gets runs in state Scheduled (broken by sqlalchemy 2.1, silently)."""
    prefect("deployment", "schedule", "create", "ingest/demo", "--interval", "3600")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if count := post(url, "flow_runs/count", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}):
            print(f"schedule: {count} runs scheduled")
            return
        time.sleep(1)
    raise AssertionError("an interval schedule got no scheduled run within 120 s; check the version of sqlalchemy")


@contextlib.contextmanager
def worker() -> Iterator[None]:
    """A process worker for the block."""
    process = subprocess.Popen([command("prefect"), "worker", "start", "--pool", "evergreen"], cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def tiny_experiment(path: Path) -> Path:
    """The demo at a hundredth of its size, under a name of its own."""
    raw = yaml.safe_load((ROOT / "flows/configs/demo.yaml").read_text())
    raw["name"] = "tiny"
    raw["sources"] = [source | TINY for source in raw["sources"]]
    raw["start"] |= {"iterations": 4, "batch_size": 16}
    raw["stream"]["steps"] = 2
    raw["batch_size"], raw["budget"] = 16, {"kind": "iterations", "per_step": 2}
    raw["evaluation"]["validation"] = {"share": 0.3}
    path.write_text(yaml.safe_dump(raw))
    return path


def prefect(*arguments: str) -> None:
    """Run the command `prefect` in the repository, as a user would."""
    subprocess.run([command("prefect"), *arguments], check=True, cwd=ROOT)


def command(name: str) -> str:
    """The path of an installed command of this environment."""
    return str(Path(sys.executable).with_name(name))


def post(url: str, path: str, body: dict):
    """Ask the Prefect API."""
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
