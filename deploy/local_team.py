"""A team's installation on this machine, from packages: PostgreSQL, a test server of S3, Prefect, MLflow, workers.

`make team` keeps it until Ctrl-C and leaves nothing behind; tests/prove_team.py lives a stream on it. All of it listens
on the loopback interface, and every password is made for this one life and passed by environment, never by argument.
"""

import argparse
import contextlib
import glob
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from data_catalog.catalog_place import Lake, place  # noqa: E402 needs the path
from data_catalog.lake import connected  # noqa: E402
from data_catalog.outage import Outage  # noqa: E402
from data_catalog.processes import child, free_ports, wait_until_healthy  # noqa: E402

HOST, SECONDS = "127.0.0.1", 180
POOLS = ("evergreen-gpu", "evergreen-cpu")
BUCKETS = ("mlflow", "evergreen")
DATABASES = ("prefect", "mlflow", "lake")  # each with a role of its name that owns it


class Team:
    """A running installation: its addresses, its secrets, and the environment that clients of it have."""

    def __init__(self, folder: Path, object_storage: bool, lake: bool = False):
        self.folder, self.home = folder, folder / "home"
        self.ports = dict(zip(("postgres", "s3", "prefect", "mlflow"), free_ports(HOST, 4), strict=True))
        # each says what it is, so that a search for it says where it leaked from
        names = ("superuser", *DATABASES, "login", "s3id", "s3key")
        self.secrets = {name: f"{name}SECRET{secrets.token_hex(8)}" for name in names}
        self.prefect, self.mlflow = f"http://{HOST}:{self.ports['prefect']}", f"http://{HOST}:{self.ports['mlflow']}"
        self.environment = self._environment(object_storage, lake)

    def database(self, name: str, scheme: str = "postgresql") -> str:
        """The URL of one of the databases, with its password."""
        return f"{scheme}://{name}:{self.secrets[name]}@{HOST}:{self.ports['postgres']}/{name}"

    def _environment(self, object_storage: bool, lake: bool) -> dict[str, str]:
        storage = f"http://{HOST}:{self.ports['s3']}"
        places = {"EVERGREEN_STORE": "s3://evergreen/store"} if object_storage else {}
        if lake:
            index = f"ducklake:postgres:dbname=lake host={HOST} port={self.ports['postgres']} user=lake"
            places |= {"EVERGREEN_CATALOG": index, "EVERGREEN_CATALOG_DATA": "s3://evergreen/lake",
                       "PGPASSWORD": self.secrets["lake"]}  # fmt: skip
        return places | {
            "EVERGREEN_HOME": str(self.home), "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.prefect}/api", "PREFECT_API_AUTH_STRING": f"evergreen:{self.secrets['login']}",
            "MLFLOW_TRACKING_URI": self.mlflow, "AWS_ENDPOINT_URL": storage, "MLFLOW_S3_ENDPOINT_URL": storage,
            "AWS_ACCESS_KEY_ID": self.secrets["s3id"], "AWS_SECRET_ACCESS_KEY": self.secrets["s3key"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip


@contextlib.contextmanager
def team(folder: Path, object_storage: bool = False, lake: bool = False) -> Iterator[Team]:
    """The whole installation for the block, its logs and its home in `folder`.

    `object_storage`: whether the store is a bucket too, not a folder of the home; `lake`: whether the catalog is a
    DuckLake, not a file. Raises Outage where a part does not start, ValueError where a package is missing.
    """
    made = Team(folder, object_storage, lake)
    made.home.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(made.environment))  # of this process and of all that it starts
        if isinstance(where := place(), Lake):
            with connected(where):
                pass  # before a minute of starting: whether DuckDB here has the extensions
        stack.enter_context(postgres(made))
        stack.enter_context(_s3(made))
        stack.enter_context(_prefect(made))
        stack.enter_context(_mlflow(made))
        yield made


@contextlib.contextmanager
def workers(made: Team, *configs: Path) -> Iterator[None]:
    """Pools, limits, all deployments and those of `configs`, and a worker for each pool, for the block."""
    subprocess.run([Path(sys.executable).with_name("evergreen"), "deploy", *map(str, configs)], check=True, cwd=ROOT,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    with contextlib.ExitStack() as stack:
        for pool in POOLS:
            stack.enter_context(_running(made, f"worker-{pool}", ["prefect", "worker", "start", "--pool", pool]))
        yield


@contextlib.contextmanager
def postgres(made: Team) -> Iterator[None]:
    """A PostgreSQL of its own, with a database and a role for each server."""
    folder = Path(tempfile.mkdtemp(prefix="evergreen-postgres-"))
    try:
        _give_away(folder)
        password = folder / "password"
        password.touch(0o600)
        password.write_text(made.secrets["superuser"])
        _give_away(password)
        _as_postgres("initdb", "-D", f"{folder}/data", "-U", "postgres", "--auth=scram-sha-256", "-E", "UTF8",
                     f"--pwfile={password}", "--no-locale")  # fmt: skip
        password.unlink()
        options = f"-c listen_addresses={HOST} -c port={made.ports['postgres']} -c unix_socket_directories={folder}"
        log = folder / "postgres.log"
        _as_postgres("pg_ctl", "start", "-w", "-D", f"{folder}/data", "-l", str(log), "-o", options)
        made.postgres_folder = folder
        try:
            _make_databases(made)
            yield
        finally:
            shutil.copy(log, made.folder / "postgres.log")
            _as_postgres("pg_ctl", "stop", "-m", "immediate", "-D", f"{folder}/data")
    finally:
        shutil.rmtree(folder)


def restart_postgres(made: Team) -> None:
    """Stop PostgreSQL with every connection it has, as an upgrade would, and start it again."""
    _as_postgres("pg_ctl", "restart", "-m", "fast", "-w", "-D", f"{made.postgres_folder}/data",
                 "-l", f"{made.postgres_folder}/postgres.log")  # fmt: skip


def dumped(made: Team, name: str) -> bytes:
    """Everything in one of the databases, as SQL."""
    environment = os.environ | {"PGPASSWORD": made.secrets[name]}
    command = [_binary("pg_dump"), "-h", HOST, "-p", str(made.ports["postgres"]), "-U", name, name]
    return subprocess.run(command, env=environment, check=True, capture_output=True).stdout


def _make_databases(made: Team) -> None:
    import psycopg2

    url = f"postgresql://postgres:{made.secrets['superuser']}@{HOST}:{made.ports['postgres']}/postgres"
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for name in DATABASES:
                cursor.execute(f"CREATE ROLE {name} LOGIN PASSWORD %s", [made.secrets[name]])
                cursor.execute(f"CREATE DATABASE {name} OWNER {name}")


def _s3(made: Team):
    """The test server of moto, which keeps objects in memory; with the buckets made."""
    command = ["moto.server", "-H", HOST, "-p", str(made.ports["s3"])]
    return _running(made, "s3", command, f"{made.environment['AWS_ENDPOINT_URL']}/moto-api/", then=_make_buckets)


def _make_buckets() -> None:
    import s3fs

    storage = s3fs.S3FileSystem(skip_instance_cache=True)
    for name in BUCKETS:
        storage.makedirs(name, exist_ok=True)


def _prefect(made: Team):
    own = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": made.database("prefect", "postgresql+asyncpg"),
           "PREFECT_SERVER_API_AUTH_STRING": made.environment["PREFECT_API_AUTH_STRING"],
           "PREFECT_SERVER_UI_API_URL": f"{made.prefect}/api"}  # fmt: skip
    command = ["prefect", "server", "start", "--host", HOST, "--port", str(made.ports["prefect"])]
    return _running(made, "prefect", command, f"{made.prefect}/api/health", own)


def _mlflow(made: Team):
    own = {"MLFLOW_BACKEND_STORE_URI": made.database("mlflow"), "MLFLOW_ARTIFACTS_DESTINATION": "s3://mlflow"}
    command = ["mlflow", "server", "--host", HOST, "--port", str(made.ports["mlflow"]), "--workers", "2"]
    return _running(made, "mlflow", command, f"{made.mlflow}/health", own)


@contextlib.contextmanager
def _running(made: Team, name: str, module: list[str], url: str | None = None,
             own: Mapping[str, str] | None = None, then=None) -> Iterator[None]:  # fmt: skip
    """`python -m module...` for the block, once `url` answers; what it says goes to a log called like it."""
    log = made.folder / f"{name}.log"
    with child(module, log, own, ROOT, patience=30) as process:
        if url:
            wait_until_healthy(url, process, log, SECONDS)
        if then:
            then()
        yield


def _as_postgres(name: str, *arguments: str) -> None:
    """One of PostgreSQL's programs, never as root, which it refuses."""
    user = _owner()
    done = subprocess.run([_binary(name), *arguments], user=user, group=user and pwd.getpwnam(user).pw_gid,
                          extra_groups=[] if user else None, cwd="/", stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)  # fmt: skip
    if done.returncode:
        raise Outage(f"{name} of PostgreSQL ended with code {done.returncode}: {done.stderr[-1500:]}")


def _binary(name: str) -> str:
    """A program of the newest PostgreSQL; raises ValueError that names the package."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: int(path.split("/")[4]))
    if path := (found[-1] if found else shutil.which(name)):
        return path
    raise ValueError(f"PostgreSQL is not installed ({name} is missing): apt-get install postgresql, and run this again")


def _owner() -> str | None:
    """Who runs PostgreSQL: this user, or for root the user of its package."""
    return "postgres" if os.geteuid() == 0 else None


def _give_away(path: Path) -> None:
    if user := _owner():
        shutil.chown(path, user)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables, and no other of ours, for the block."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("EVERGREEN_", "PREFECT_", "MLFLOW_"))]:
        del os.environ[name]
    os.environ.update(values)
    from flows.environment import configure

    configure()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Start everything, say where it is, and stop it at Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", type=Path, help="experiments and living streams that are deployed too")
    parser.add_argument("--object-storage", action="store_true", help="keep the store in a bucket, not in a folder")
    parser.add_argument("--lake", action="store_true", help="keep the catalog in PostgreSQL and a bucket: a DuckLake")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with contextlib.ExitStack() as stack, contextlib.suppress(KeyboardInterrupt):
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="evergreen-team-"))
        print(f"starting, which takes a minute; logs in {folder}", flush=True)
        made = stack.enter_context(team(Path(folder), options.object_storage, options.lake))
        stack.enter_context(workers(made, *options.configs))
        print(about(made), flush=True)
        signal.pause()


def about(made: Team) -> str:
    """What a person at the terminal needs to use it."""
    login = made.environment["PREFECT_API_AUTH_STRING"]
    variables = "\n".join(f"  export {name}={value}" for name, value in made.environment.items())
    return (
        f"\nPrefect {made.prefect} (log in with {login})\nMLflow  {made.mlflow}\nlogs    {made.folder}\n\n"
        f"another terminal joins with:\n{variables}\n  prefect deployment run 'continual-pretrain/demo'\n\n"
        "Ctrl-C stops everything and deletes it"
    )


if __name__ == "__main__":
    try:
        main()
    except (ValueError, Outage) as error:
        sys.exit(f"make team: {error}")
