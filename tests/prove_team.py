"""Proves a team's installation: all servers start on this machine, the flows run on them, and nothing else comes of it.

PostgreSQL, a test server of S3 with the store in it, Prefect with its workers, MLflow, and a local Ray for the long
stages. Digests, scores and the catalog's rows equal those of embedded runs, also when PostgreSQL restarts in the middle
of an update; and no password is anywhere in what was written. `make team-demo` lives the whole demo on it, `make prove`
a small stream. It leaves nothing behind.
"""

import argparse
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from deploy.local_team import BUCKETS, DATABASES, Team, dumped, restart_postgres, team, workers  # noqa: E402
from tests.flows.living_streams import put, written  # noqa: E402
from tests.prove_deployments import tiny_experiment  # noqa: E402
from tests.proving import command  # noqa: E402

STREAM = "colours"
ITERATIONS = 150  # of an update: long enough to restart a database in its middle
SAVING = {"EVERGREEN_SAVE_ITERATIONS": "20"}  # the states of an update tell that it is in its middle
TABLES = ("datasets", "concepts", "samples", "captions", "streams", "stream_members", "steps", "step_draws",
          "checkpoint_parents")  # fmt: skip
UNSETTLED = 2.1  # seconds within which a file's time of change is not trusted


def main() -> None:
    """Live embedded and on the team's servers, compare, search; an assertion says what did not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="the demo as it is, not at a hundredth of its size")
    parser.add_argument("--plain", action="store_true", help="a store in a folder, all stages on threads")
    parser.add_argument("--lake", action="store_true", help="the catalog as a DuckLake; needs evergreen[ducklake]")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # PostgreSQL is no child of ours
    with tempfile.TemporaryDirectory(prefix="evergreen-prove-team-") as folder:
        prove(Path(folder), options)
    print("proved")


def prove(folder: Path, options: argparse.Namespace) -> None:
    """Everything, in one folder."""
    demo = ROOT / "flows/configs/demo.yaml" if options.full else tiny_experiment(folder / "tiny.yaml")
    name = f"{demo.stem}-seed0"
    inbox = folder / "inbox"
    stream = written(folder / "living.yaml", inbox, budget={"kind": "iterations", "per_step": ITERATIONS})
    put(inbox, 0)
    time.sleep(UNSETTLED)
    with embedded(folder / "embedded"):
        evergreen("run", str(demo))
        evergreen("live", str(stream))
        say("embedded: the experiment, and the first step of the stream")
        alone = experiment(name)
    started = time.monotonic()
    with team(folder / "team", not options.plain, options.lake) as made, telling_of_logs(made):
        os.environ |= SAVING
        say(f"PostgreSQL, S3, Prefect and MLflow started in {time.monotonic() - started:.0f} s")
        with workers(made, stream):
            examined()
            completed("continual-pretrain/demo", "--param", f"config={demo if options.plain else on_ray(demo, folder)}")
            assert experiment(name) == alone, "other weights or scores than embedded"
            say(f"continual-pretrain: {sum(map(len, alone['recipes'].values()))} steps, as embedded: {short(alone)}")
            completed(f"living-stream/{STREAM}")
            put(inbox, 1)
            time.sleep(UNSETTLED)
            outcome = interrupted(made)
            here, entered = life(), rows()
        with embedded(folder / "embedded"):
            evergreen("live", str(stream))
            assert life() == here and len(here) == 2, "other weights or scores than embedded"
            assert rows() == entered, f"other rows in the catalog than embedded: {rows()}, {entered}"
        say(f"living-stream with PostgreSQL restarted in its second update: {outcome}; {len(here)} steps as embedded")
        say(f"catalog {made.environment.get('EVERGREEN_CATALOG', 'in a file')}: {len(entered)} tables as embedded")
        registered(made)
        nothing_leaked(made)


def on_ray(config: Path, folder: Path) -> Path:
    """The same experiment, with its long stages in worker processes of Ray."""
    path = folder / "on_ray.yaml"
    path.write_text(f"extends: {config}\nexecution: {{stages: {{kind: ray, workers: 2}}}}\n")
    return path


@contextlib.contextmanager
def telling_of_logs(made: Team) -> Iterator[None]:
    """If something does not hold, say what the servers and workers said last: their logs go with the folder."""
    try:
        yield
    except AssertionError:
        for log in sorted(made.folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
        raise


@contextlib.contextmanager
def embedded(home: Path) -> Iterator[None]:
    """A home without any server, for the block, whatever the team's environment is."""
    before = dict(os.environ)
    for name in [*os.environ]:
        if name.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_", "AWS_")):
            del os.environ[name]
    os.environ |= SAVING | {"EVERGREEN_HOME": str(home)}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def evergreen(*arguments: str) -> str:
    """What the command prints, run as a user would."""
    done = subprocess.run([command("evergreen"), *arguments, "--json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"evergreen {' '.join(arguments)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def experiment(name: str) -> dict:
    """What must be equal of a finished experiment: every checkpoint and every score."""
    from models.evaluation.record import load_record, pointed_to

    record = load_record(pointed_to(name))
    return {
        "pretrained": record.pretrained,
        "zero_shot": record.zero_shot.model_dump(),
        "recipes": {
            recipe.name: [(step.expert, step.deployed, step.step_plan, step.scores.model_dump())
                          for step in recipe.steps]
            for recipe in record.recipes
        },
    }  # fmt: skip


def life() -> list[tuple]:
    """What must be equal of the living stream: what every step proposed, its scores, its verdict."""
    from data_catalog import store
    from models import living

    steps = [living.load_step(digest) for digest in living.finished(STREAM)]
    assert all(store.is_intact(step.candidate.digest) for step in steps)
    return [(step.candidate.digest, step.record.scores.model_dump(), step.verdict.outcome) for step in steps]


def rows() -> dict[str, tuple]:
    """What must be equal of the catalog: how many rows its tables have, and a checksum over them."""
    from data_catalog import catalog

    asked = "SELECT count(*) AS rows, CAST(bit_xor(hash(its)) AS VARCHAR) AS checksum FROM {} its"
    return {table: tuple(catalog.query(asked.format(table))[0].values()) for table in TABLES}


def examined() -> None:
    """The doctor finds nothing that stops a run, once the workers poll."""
    deadline = time.monotonic() + 120
    while (found := json.loads(evergreen("doctor")))["warn"] and time.monotonic() < deadline:
        time.sleep(2)
    say(f"evergreen doctor: {found['ok']} fine, {found['warn']} to look at, {found['fail']} that stop a run")
    assert not found["warn"], [each for each in found["findings"] if each["state"] != "ok"]


def completed(deployment: str, *options: str) -> None:
    """Run a deployment to its end, and well."""
    started = time.monotonic()
    subprocess.run([command("prefect"), "deployment", "run", deployment, "--watch", *options], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    run = newest_run(deployment.partition("/")[0])
    assert run["state_type"] == "COMPLETED", run["state"]
    say(f"{deployment}: {run['state_name']} in {time.monotonic() - started:.0f} s")


def interrupted(made: Team) -> str:
    """Restart PostgreSQL in the middle of the second step's update; what became of the run, and of the next one."""
    from data_catalog.places import store_root
    from models import living

    subprocess.run([command("prefect"), "deployment", "run", f"living-stream/{STREAM}"], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    states = store_root() / "unfinished"
    wait_until(lambda: living.begun(STREAM) is not None and any(states.rglob("*.pt")), 300)
    restart_postgres(made)
    say("PostgreSQL was restarted in the middle of an update")
    wait_until(lambda: newest_run("living-stream")["state_type"] in ("COMPLETED", "FAILED", "CRASHED"), 300)
    ended = newest_run("living-stream")["state_type"].lower()
    steps = len(living.finished(STREAM))
    completed(f"living-stream/{STREAM}")
    assert len(living.finished(STREAM)) == 2
    return f"the run {ended} with {steps} steps"


def newest_run(flow: str) -> dict:
    """The run of a flow that was asked for last; a server that just lost its database is asked again."""
    from flows.handing_over import ServerRefused, post

    for pause in (1, 2, 4, 8, None):
        try:
            body = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC", "limit": 1}
            return post(os.environ["PREFECT_API_URL"], "flow_runs/filter", body)[0]
        except ServerRefused:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def registered(made: Team) -> None:
    """MLflow has the scores on PostgreSQL, and the live weights in the bucket, with the bytes that the ledger names."""
    from hashlib import sha256

    import s3fs

    from data_catalog import promotions

    storage = s3fs.S3FileSystem(skip_instance_cache=True)
    weights = [storage.cat_file(path) for path in storage.find("mlflow") if path.endswith("model.safetensors")]
    live = promotions.live(STREAM).checkpoint
    assert live in {f"sha256:{sha256(each).hexdigest()}" for each in weights}, "the live weights are not in the bucket"
    said = json.loads(evergreen("registry", STREAM))
    say(f"MLflow: {len(weights)} versions in the bucket, the live one among them; champion {said['champion']}")


def nothing_leaked(made: Team) -> None:
    """No password, in no spelling, in anything that the life wrote; and the search is one that finds."""
    texts = dict(everything_written(made))
    planted = {"planted": f"token={made.secrets['login']}".encode()}
    assert leaks(made, planted), "the search finds nothing"
    found = leaks(made, texts)
    assert not found, f"secrets are in {found}"
    size = sum(map(len, texts.values()))
    say(f"credentials: none of {len(made.secrets)} in {len(texts)} files, databases and objects, {size / 1e6:.1f} MB")


def everything_written(made: Team) -> Iterator[tuple[str, bytes]]:
    """Home, store, results and logs; PostgreSQL's own files and dumps; every object of every bucket; command lines."""
    import s3fs

    for root in (made.folder, made.postgres_folder):
        yield from (
            (str(path), path.read_bytes()) for path in root.rglob("*") if path.is_file() and not path.is_socket()
        )
    yield from ((f"database {name}", dumped(made, name)) for name in DATABASES)
    storage = s3fs.S3FileSystem(skip_instance_cache=True)
    yield from ((f"s3://{path}", storage.cat_file(path)) for bucket in BUCKETS for path in storage.find(bucket))
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            yield f"arguments of {process.parent.name}", process.read_bytes()


def leaks(made: Team, texts: dict[str, bytes]) -> list[str]:
    """Which texts have which secret, as it is, in a URL, or in a header."""
    spelled = {name: spellings(secret) for name, secret in made.secrets.items()}
    login = made.environment["PREFECT_API_AUTH_STRING"]
    spelled["header"] = {base64.b64encode(login.encode())}
    return [f"{where}: {name}" for where, text in texts.items() for name, ways in spelled.items()
            if any(way in text for way in ways)]  # fmt: skip


def spellings(secret: str) -> set[bytes]:
    """A secret plainly, quoted for a URL, in base64 and as hexadecimal digits."""
    plain = secret.encode()
    return {plain, quote(secret, safe="").encode(), base64.b64encode(plain).rstrip(b"="), plain.hex().encode()}


def short(alone: dict) -> str:
    """The last checkpoint of every recipe."""
    return ", ".join(f"{name} {steps[-1][1][7:15]}" for name, steps in alone["recipes"].items())


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    """Ask again and again; raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.05)


def say(what: str) -> None:
    """One line of the proof, at once."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


if __name__ == "__main__":
    main()
