"""Proves that arriving data becomes steps, on a local server: watchers, events, a worker; run by hand, minutes.

    python tests/prove_arrivals.py [watchers] [server] [event] [during]

Two watchers look at one moment, one event is sent three times, data arrives during a step: each batch is one step.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.flows.living_streams import put, written  # noqa: E402 needs the path
from tests.proving import command, prefect, worker  # noqa: E402

POOL = "arrivals"


def main() -> None:
    """Exits with an assertion that says what did not hold."""
    with tempfile.TemporaryDirectory(prefix="evergreen-arrivals-") as folder:
        os.environ["EVERGREEN_HOME"] = str(Path(folder) / "home")
        from flows.environment import configure

        configure()
        from flows.server import api

        inbox = Path(folder) / "inbox"
        asked = sys.argv[1:] or ["watchers", "server", "event", "during"]
        config = written(Path(folder) / "living.yaml", inbox)
        put(inbox, 0)
        if "watchers" in asked:
            race_without_a_server(config)
        with api() as url:
            deploy(config, Path(folder) / "prefect.yaml")
            with worker(POOL):
                for number, (part, prove) in enumerate(PARTS.items(), start=1):
                    if part in asked:
                        put(inbox, number)
                        prove(url, config)
        print("proved", *asked)


def race_without_a_server(config: Path) -> None:
    """Two watchers in two processes, each able to take the step itself."""
    watchers = [evergreen("watch", config, "--once", "--json") for _ in range(2)]
    did = [json.loads(watcher.communicate(timeout=900)[0])["outcome"] for watcher in watchers]
    print("two watchers without a server:", [each and each["did"] for each in did])
    assert [bool(each) and each["did"] == "step" for each in did].count(True) == 1, did
    assert steps() == 1, steps()


def race_with_a_server(url: str, config: Path) -> None:
    """Two watchers that both see what waits get one run."""
    before, before_runs = steps(), len(runs_of(url))
    watchers = [evergreen("watch", config, "--once", "--json") for _ in range(2)]
    told = [json.loads(watcher.communicate(timeout=900)[0]) for watcher in watchers]
    ids = {each["run"]["run"] for each in told}
    print("two watchers with a server:", [(each["did"], each["run"]["state"]) for each in told], flush=True)
    assert len(ids) == 1, told
    finished(url, before_runs + 1)
    assert steps() == before + 1, steps()


def repeated_event(url: str, config: Path) -> None:
    """One event three times, with an automation that starts the deployment."""
    before, before_runs, sent = steps(), len(runs_of(url)), 0.0
    for _ in range(3):
        sender = evergreen("notify", config)
        print("notify:", sender.communicate(timeout=120)[0].strip(), flush=True)
        sent = sent or time.time()
    runs = finished(url, before_runs + 1)
    started = max(datetime.fromisoformat(run["start_time"]).timestamp() for run in runs if run["start_time"])
    print(f"first event to running flow: {started - sent:.1f} s", flush=True)
    time.sleep(15)  # long enough for a second run to show itself
    assert len(runs_of(url)) == before_runs + 1, "the same event made two runs"
    assert steps() == before + 1, steps()


def arrival_during_a_step(url: str, config: Path) -> None:
    """What arrives while a step runs is the next one."""
    before_runs = len(runs_of(url))
    assert "started" in evergreen("watch", config, "--once").communicate(timeout=120)[0]
    while not any(run["state_type"] == "RUNNING" for run in runs_of(url)):
        time.sleep(0.2)
    while looked(config) != "at work":
        time.sleep(0.2)
    put(config.parent / "inbox", 100)
    assert looked(config) in ("at work", "start")
    finished(url, before_runs + 1)
    while looked(config) == "start":
        evergreen("watch", config, "--once").communicate(timeout=120)
        finished(url, len(runs_of(url)))
    arrivals = [entry["samples"] for entry in arrived()]
    print("samples of each step:", arrivals)
    assert looked(config) == "nothing new"
    assert len({json.dumps(each) for each in keys()}) == len(keys()), "a sample is in two steps"


PARTS = {"server": race_with_a_server, "event": repeated_event, "during": arrival_during_a_step}


def looked(config: Path) -> str:
    """The verdict of a look in this process."""
    from flows.arriving import look
    from flows.living_config import load_living

    return look(load_living(config)).verdict


def arrived() -> list[dict]:
    from models import living

    return [arrival.model_dump(mode="json") for arrival in living.arrivals("colours")]


def keys() -> list[str]:
    """The samples of all steps."""
    from data_catalog import store

    return [key for each in arrived() for key in store.read_table(each["digest"])["key"].to_pylist()]


def steps() -> int:
    """How many steps the stream has made."""
    return len(arrived())


def runs_of(url: str) -> list[dict]:
    """The runs of the deployment."""
    from flows.handing_over import post

    return post(url, "flow_runs/filter", {"deployments": {"name": {"any_": ["colours"]}}})


def finished(url: str, count: int) -> list[dict]:
    """Wait until so many runs have ended, all of them well."""
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        runs = runs_of(url)
        assert all(run["state_type"] not in ("FAILED", "CRASHED") for run in runs), runs
        if sum(run["state_type"] == "COMPLETED" for run in runs) >= count:
            return runs
        time.sleep(0.5)
    raise AssertionError(f"{count} runs have not ended: {[(r['state_name'], r['name']) for r in runs_of(url)]}")


def deploy(config: Path, path: Path) -> None:
    """The deployment of a stream, with the automation that `docs/operations/arrivals.md` shows."""
    trigger = {"type": "event", "match": {"prefect.resource.id": "evergreen.stream.colours"},
               "expect": ["evergreen.data.arrived"], "posture": "Reactive", "threshold": 1}  # fmt: skip
    deployment = {"name": "colours", "entrypoint": "flows/living.py:living_stream", "work_pool": {"name": POOL},
                  "parameters": {"config": str(config)}, "concurrency_limit": 1, "triggers": [trigger]}  # fmt: skip
    path.write_text(yaml.safe_dump({"name": "arrivals", "deployments": [deployment]}))
    prefect("work-pool", "create", POOL, "--type", "process")
    prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(path))


def evergreen(*arguments: object) -> subprocess.Popen:
    """The command, started."""
    return subprocess.Popen([command("evergreen"), *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
