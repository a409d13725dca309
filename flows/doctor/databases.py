"""MLflow, and the databases that servers of a team are given, never shown with their passwords."""

import asyncio
import base64
import contextlib
import sqlite3
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path
from urllib.parse import urlsplit

from flows.doctor.answers import SECONDS, ask, same_clock
from flows.doctor.findings import Asked, Finding, fail, ok, warn

DRIVERS = {"postgresql": "psycopg2"}  # what SQLAlchemy takes for a URL without one
SERVERS = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL", "MLFLOW_BACKEND_STORE_URI")
TEAM = "uv pip install 'evergreen[team]'"


def mlflow(asked: Asked) -> Iterator[Finding]:
    """MLFLOW_TRACKING_URI: a server, a database, or the file in the home."""
    where = asked.environment.get("MLFLOW_TRACKING_URI", "")
    if where.startswith(("http://", "https://")):
        yield from _mlflow_server(where.rstrip("/"), asked)
    elif where:
        yield _database("MLflow", "MLFLOW_TRACKING_URI", where)


def databases(asked: Asked) -> Iterator[Finding]:
    """Those that a server on this machine would be started with."""
    for name in SERVERS:
        if where := asked.environment.get(name):
            yield _database(f"database of {name}", name, where)


def _mlflow_server(url: str, asked: Asked) -> Iterator[Finding]:
    try:
        answer = ask(f"{url}/version", _login(asked))
    except (OSError, ValueError) as error:
        yield fail("MLflow", f"{url} does not answer: {error}", "an MLflow server",
                   "start it, or correct MLFLOW_TRACKING_URI; runs go on without, and say so")  # fmt: skip
        return
    ours, said = metadata.version("mlflow"), answer.body[:40].decode(errors="replace").strip()
    if answer.status in (401, 403):
        yield fail("MLflow", f"{url} answers {answer.status}: it does not let us in", "an answer",
                   "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")  # fmt: skip
    elif answer.status != 200:
        yield fail("MLflow", f"{url} answers {answer.status}", "an MLflow server", "correct MLFLOW_TRACKING_URI")
    elif said != ours:
        yield warn("MLflow", f"{url} has version {said}", f"{ours}, that of the client",
                   "install the same version on both: the one in requirements.lock")  # fmt: skip
    else:
        yield ok("MLflow", f"{url}, version {said}")
    yield from same_clock("clock of MLflow", answer.ahead_seconds)


def _login(asked: Asked) -> dict[str, str]:
    user, password = (asked.environment.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    pair = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {pair}"} if user else {}


def _database(name: str, variable: str, url: str) -> Finding:
    """A database by its SQLAlchemy URL."""
    dialect, _, driver = url.partition("://")[0].partition("+")
    if dialect == "sqlite":
        return _sqlite(name, variable, url)
    if dialect != "postgresql":
        return warn(name, f"{variable} is for {dialect}, which is not examined", "sqlite or postgresql",
                    "examine it with its own tools")  # fmt: skip
    module = driver or DRIVERS[dialect]
    if util.find_spec(module) is None:
        return fail(name, f"{variable} needs the driver {module}, which is missing", "the driver", TEAM)
    return _postgresql(name, variable, url)


def _sqlite(name: str, variable: str, url: str) -> Finding:
    path = Path(url.partition(":///")[2].partition("?")[0]).resolve()
    if not path.exists():
        return ok(name, f"{path}: made at the first use")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=SECONDS)) as database:
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    except sqlite3.Error as error:
        return fail(name, f"{path}: {error}", "a database that opens",
                    f"move the file away, or correct {variable}: both are made again")  # fmt: skip
    return ok(name, f"{path}, {tables} tables")


def _postgresql(name: str, variable: str, url: str) -> Finding:
    parts = urlsplit(url)
    where = f"{parts.hostname or 'a socket'}:{parts.port or 5432}{parts.path}"
    try:
        version, tables = asyncio.run(_looked(f"postgresql://{url.partition('://')[2]}"))
    except Exception as error:  # the driver has many classes, and some of them tell the whole URL
        return fail(name, f"{where}: {type(error).__name__}: {error}", "a database that lets us in",
                    f"start PostgreSQL, or correct {variable}")  # fmt: skip
    made = f"{tables} tables" if tables else "empty: tables are made at the first start"
    return ok(name, f"{where}, PostgreSQL {version}, {made}")


async def _looked(url: str) -> tuple[str, int]:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=SECONDS)
    try:
        version = await connection.fetchval("SHOW server_version")
        tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        return version, await connection.fetchval(tables)
    finally:
        await connection.close()
