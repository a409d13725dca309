"""Proves the deployments on a local server, as a user would: deploy all, start workers, run each, read the results.

Run it with `make prove`; it takes minutes and leaves nothing behind.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.proving import command, prefect, worker  # noqa: E402 needs the path

TINY = {"pretraining_images": 60, "adaptation_images": 130, "test_images": 12}
STREAM = "colours"
PATIENCE = 600  # seconds for any run
EVENT_SECONDS = 30  # from an event to the start of its run, on a machine that does nothing else


def main() -> None:
    """Deploy, run, check; exits with an assertion that says what did not hold."""
    with tempfile.TemporaryDirectory(prefix="evergreen-prove-") as folder:
        os.environ["EVERGREEN_HOME"] = str(Path(folder) / "home")
        from flows.environment import configure

        configure()
        from flows.server import api
        from tests.flows.living_streams import put, written

        inbox = Path(folder) / "inbox"
        put(inbox, 0)
        # what passes the gate waits for a person, so that each decision has something to decide
        stream = written(Path(folder) / "living.yaml", inbox, living={"gate": {"each": None, "automatic": False}})
        with api() as url:
            deployed(url, stream)
            refused(url)
            with worker("evergreen-gpu"), worker("evergreen-cpu"):
                experiment(url, Path(folder))
                living(url, lambda batch: put(inbox, batch))
                scheduled(url)
    print("proved")


def deployed(url: str, stream: Path) -> None:
    """Everything is deployed, once however often, and nothing starts by itself."""
    for _ in range(2):
        subprocess.run([command("evergreen"), "deploy", str(stream)], check=True, cwd=ROOT)
    found = post(url, "deployments/filter", {})
    print("deployed:", *sorted(f"{each['name']} of {each['entrypoint']}" for each in found), sep="\n  ")
    assert len(found) == 16, len(found)  # eleven of prefect.yaml, five of the stream
    assert not any(schedule["active"] for each in found for schedule in each["schedules"])
    automations = [each["name"] for each in post(url, "automations/filter", {})]
    assert len(automations) == 4, automations  # each stream's data, and two that alert
    pools = {pool["name"]: pool["concurrency_limit"] for pool in post(url, "work_pools/filter", {})}
    assert pools == {"evergreen-gpu": 1, "evergreen-cpu": None}, pools


def refused(url: str) -> None:
    """What a form does not allow is refused before any run exists."""
    for name, parameters in {
        "continual-pretrain/demo": {"config": "flows/configs/demo.yaml", "seed": -1},
        "living-stream/colours": {"now": "perhaps"},
        "promote/colours": {"stream": STREAM, "step": -1, "reason": "why not"},
        "reject/colours": {"stream": STREAM, "step": 0},
        "evaluate/demo": {"config": {"name": "no experiment"}},
    }.items():
        try:
            start(url, name, parameters)
        except urllib.error.HTTPError as error:
            print(f"refused: {name} {json.dumps(parameters)}: {json.load(error)['detail'][:100]}")
        else:
            raise AssertionError(f"{name} took {parameters}")
    assert post(url, "flow_runs/count", {}) == 0


def experiment(url: str, folder: Path) -> None:
    """The four deployments of an experiment on a tiny one, and the stream again, from the command line."""
    config, done = tiny_experiment(folder / "tiny.yaml"), {}
    stream = "continual-pretrain/demo"
    for name in ("ingest/demo", stream, stream, "evaluate/demo", "merge-search/demo"):
        started = time.monotonic()
        prefect("deployment", "run", name, "--param", f"config={config}", "--watch")
        run = post(url, "flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})[0]
        tasks = post(url, "task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        cached = sum(task["state_name"] == "Cached" for task in tasks)
        print(f"{name}: {run['state_name']}, {len(tasks)} tasks, {cached} re-used, {time.monotonic() - started:.0f} s")
        assert run["state_type"] == "COMPLETED", run["state"]
        done.setdefault(name, []).append(cached)
    first, second = done[stream]
    assert second > first, f"the second run re-used {second} tasks, the first already {first}"
    said = subprocess.run([command("evergreen"), "status", "--json"], check=True, capture_output=True).stdout
    assert [row["name"] for row in json.loads(said)["experiments"]] == ["tiny-seed0"], said


def living(url: str, put) -> None:
    """A stream as the UI runs it: a step, a decision by form, data told of by an event, decisions again."""
    asking = start(url, f"living-stream/{STREAM}", {})
    ended(url, asking, "PAUSED")  # it asks a person, and holds neither a process nor a slot meanwhile
    assert [alert["step"] for alert in alerts(url, 1)] == [0]
    completed(url, start(url, f"promote/{STREAM}", {"step": 0, "reason": "asked for in the UI"}))
    completed(url, asking)  # the decision was taken elsewhere
    completed(url, start(url, f"watch/{STREAM}", {}))  # finds nothing new
    before = runs_of(url, "living-stream")
    put(1)
    sent, event = time.time(), str(uuid.uuid4())
    for _ in range(3):  # a sender that repeats itself
        post(url, "events", [{
            "id": event, "event": "evergreen.data.arrived", "occurred": datetime.now(UTC).isoformat(),
            "resource": {"prefect.resource.id": f"evergreen.stream.{STREAM}"}, "payload": {"stream": STREAM},
        }])  # fmt: skip
    run = waited_for(lambda: [each for each in runs_of(url, "living-stream")[len(before) :] if each["start_time"]])[0]
    seconds = datetime.fromisoformat(run["start_time"]).timestamp() - sent
    load = os.getloadavg()[0] / os.cpu_count()
    print(f"an event by plain HTTP: its run began {seconds:.1f} s later, at a load of {load:.1f} for each core")
    assert seconds < EVENT_SECONDS * max(1, load), seconds
    ended(url, run["id"], "PAUSED")
    completed(url, start(url, f"reject/{STREAM}", {"step": 1, "reason": "one too many"}))
    completed(url, start(url, f"rollback/{STREAM}", {"reason": "the old ones were fine"}))
    completed(url, start(url, "housekeeping/all", {"dry_run": True}))
    assert len(runs_of(url, "living-stream")) == len(before) + 1, "one event made several runs"


def alerts(url: str, count: int) -> list[dict]:
    """The parameters of the first runs of `alert`, once so many have ended well."""
    ended = waited_for(lambda: [run for run in runs_of(url, "alert") if run["state_type"] == "COMPLETED"], count)
    return [run["parameters"] for run in ended]


def scheduled(url: str) -> None:
    """A schedule that is resumed fires: its deployment gets runs (broken by sqlalchemy 2.1, silently)."""
    watch = next(
        each for each in post(url, "deployments/filter", {}) if each["entrypoint"].startswith("flows/watch.py")
    )
    schedule = watch["schedules"][0]["id"]
    prefect("deployment", "schedule", "resume", f"watch/{watch['name']}", schedule)
    runs = waited_for(
        lambda: post(url, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}})
    )
    print(f"schedule: {len(runs)} runs scheduled once it was resumed")
    prefect("deployment", "schedule", "pause", f"watch/{watch['name']}", schedule)


def start(url: str, name: str, parameters: dict) -> str:
    """A run of a deployment as the form of the UI asks for it; its id."""
    flow, own = name.split("/")
    with urllib.request.urlopen(f"{url}/deployments/name/{flow}/{own}", timeout=120) as answer:
        chosen = json.load(answer)
    body = {"parameters": chosen["parameters"] | parameters, "state": {"type": "SCHEDULED"}, "tags": [name],
            "idempotency_key": str(uuid.uuid4())}  # fmt: skip
    return post(url, f"deployments/{chosen['id']}/create_flow_run", body)["id"]


def completed(url: str, run: str) -> None:
    """Wait for a run to end, and well."""
    ended(url, run, "COMPLETED")


def ended(url: str, run: str, wanted: str) -> None:
    """Wait for a run to end in a state of the type `wanted`."""

    def look() -> list[dict]:
        found = post(url, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return [each for each in found if each["state_type"] in (wanted, "FAILED", "CRASHED", "CANCELLED")]

    last = waited_for(look)[0]
    print(f"{' '.join(last['tags'])} {last['name']}: {last['state_name']}, {last['total_run_time']:.0f} s", flush=True)
    assert last["state_type"] == wanted, last["state"]


def runs_of(url: str, flow: str) -> list[dict]:
    """The runs of a flow, first come first."""
    body = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return post(url, "flow_runs/filter", body)


def waited_for(look, count: int = 1) -> list[dict]:
    """What `look` finds, once it is so many."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if len(found := look()) >= count:
            return found
        time.sleep(0.5)
    raise AssertionError(f"nothing came within {PATIENCE} s")


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


def post(url: str, path: str, body: dict | list):
    """Ask the Prefect API; a server that is busy is asked again."""
    request = urllib.request.Request(f"{url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    for pause in (1, 2, 4, 8, None):
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                said = answer.read()
                return json.loads(said) if said else None
        except urllib.error.HTTPError as error:
            if error.code != 503 or pause is None:
                raise
            time.sleep(pause)


if __name__ == "__main__":
    main()
