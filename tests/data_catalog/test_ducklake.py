"""The catalog as a DuckLake holds what the file would, from several writers at once, and can be copied both ways.

Runs where DuckDB has the extensions as packages (`evergreen[ducklake]`, which brings DuckDB 1.5.5); PostgreSQL and the
S3 test server are used where they are installed.
"""

import glob
import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from data_catalog import catalog, catalog_copy, catalog_database, catalog_rows, decisions, lake
from data_catalog.catalog_place import Lake, parsed, place
from data_catalog.rebuild import rebuild
from tests.data_catalog.fabricated import Life, dataset

ROOT = Path(__file__).parents[2]


def extension(name):
    found = importlib.util.find_spec(f"duckdb_extension_{name}")
    return found and found.origin and glob.glob(f"{Path(found.origin).parent}/extensions/v{catalog_database.VERSION}/*")


pytestmark = pytest.mark.skipif(
    not extension("ducklake"),
    reason=f"DuckDB {catalog_database.VERSION} has no extension packages: evergreen[ducklake]",
)
WRITER = """
import sys
from data_catalog import catalog, decisions
from tests.data_catalog.fabricated import Life, captions, dataset
own = [dataset(f"{sys.argv[1]}{number}", 3) for number in range(2)]
print("ready", flush=True)
sys.stdin.readline()
for each in own:
    catalog.record_ingest([each], [captions(each)])
Life().record()  # the same for all writers
decisions.forget([f"{sys.argv[1]}0/train/1"], "a person asked")
catalog.record_decisions()
"""


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A PostgreSQL of its own, whose password is in the environment."""
    if not glob.glob("/usr/lib/postgresql/*/bin/initdb") or not extension("postgres_scanner"):
        pytest.skip("PostgreSQL, or the extension postgres_scanner, is not installed")
    from deploy import local_team

    made = local_team.Team(tmp_path_factory.mktemp("postgres"), object_storage=False)
    with local_team.postgres(made), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", made.secrets["superuser"])
        yield made


@pytest.fixture
def on_postgres(postgres, object_store, monkeypatch):
    """A lake of its own: its index in PostgreSQL, its files on S3."""
    import fsspec
    import psycopg2

    name, server = f"lake{uuid4().hex[:8]}", f"host=127.0.0.1 port={postgres.ports['postgres']} user=postgres"
    connection = psycopg2.connect(f"dbname=postgres {server}")
    connection.autocommit = True
    connection.cursor().execute(f"CREATE DATABASE {name}")
    connection.close()
    fsspec.filesystem("s3").mkdir(name)
    monkeypatch.setenv("EVERGREEN_CATALOG", f"ducklake:postgres:dbname={name} {server}")
    monkeypatch.setenv("EVERGREEN_CATALOG_DATA", f"s3://{name}/lake")


@pytest.fixture
def in_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CATALOG", f"ducklake:{tmp_path}/catalog.ducklake")


@pytest.fixture(params=["in_a_file", "on_postgres"])
def a_lake(request):
    """EVERGREEN_CATALOG is a DuckLake."""
    request.getfixturevalue(request.param)
    return place()


def lived():
    life = Life()
    life.record()
    decisions.forget(["A/train/1"], "a person asked") if not decisions.decisions() else None
    catalog.record_decisions()
    return life


def content():
    """Every row of every table but times, which no two catalogs share."""
    where = place()
    with lake.reading(where) if isinstance(where, Lake) else catalog_database.reading(where) as db:
        names = {name for (name,) in db.execute("SHOW TABLES").fetchall()} - {"schema_migrations"}
        asked = {name: "* EXCLUDE recorded_at" if name == "ingest_runs" else "*" for name in names}
        rows = catalog_database.rows_of
        return {name: rows(db, f"SELECT {what} FROM {name} ORDER BY ALL") for name, what in asked.items()}


def in_the_file(monkeypatch, do):
    with monkeypatch.context() as patch:
        patch.delenv("EVERGREEN_CATALOG")
        return do()


def test_a_lake_holds_what_the_file_would(a_lake, monkeypatch):
    assert catalog.summary() == [] and not catalog.exists()
    lived()
    found = content()
    assert catalog.exists() and found["lineage_samples"] and found["forgotten"]
    in_the_file(monkeypatch, lived)
    assert in_the_file(monkeypatch, content) == found


def test_recording_again_adds_nothing(a_lake):
    assert Life().record() is True
    before = content()
    assert Life().record() is False
    catalog.record_ingest([dataset("A", 2)], [])
    assert catalog.query("SELECT count(*) AS n FROM samples WHERE dataset = 'A'") == [{"n": 2}]
    catalog.record_ingest([dataset("A", 4, same_bytes=(3,))], [])
    assert content()["samples"] == before["samples"]


def test_two_processes_write_at_once_and_nothing_is_lost(on_postgres):
    command = partial(subprocess.Popen, stdin=-1, stdout=-1, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)})
    writers = [command([sys.executable, "-c", WRITER, name]) for name in ("left", "right")]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.close()
    assert [writer.wait(120) for writer in writers] == [0, 0]
    once = {"A": 4, "B": 3} | {f"{name}{number}": 3 for name in ("left", "right") for number in range(2)}
    counted = "SELECT dataset, count(*) AS n, count(DISTINCT id) AS ids FROM samples GROUP BY ALL"
    assert {row["dataset"]: (row["n"], row["ids"]) for row in catalog.query(counted)} == {
        name: (size, size) for name, size in once.items()
    }
    assert catalog.query("SELECT count(*) AS n, count(DISTINCT name) AS names FROM datasets") == [{"n": 6, "names": 6}]
    assert catalog.query("SELECT number FROM decisions ORDER BY 1") == [{"number": 1}, {"number": 2}]
    assert catalog.query("SELECT sum(draws)::INT AS draws, count(*) AS n FROM step_draws") == [{"draws": 11, "n": 7}]
    held = content()
    rebuild()
    again = content()
    held.pop("ingest_runs"), again.pop("ingest_runs")  # one row per entering
    assert held == again


def test_two_who_enter_the_same_dataset_enter_it_once(on_postgres):
    of, first, tries = dataset("A", 4), [], []
    catalog.record_decisions()

    def enter(db):
        lake.take_turn(db, "dataset A")
        tries.append(1)
        if not first:  # another comes first, in the middle of our transaction
            first.append(1)
            with ThreadPoolExecutor(1) as other:
                other.submit(catalog.record_ingest, [of], []).result()
        catalog_rows.replace_dataset(db, of)

    lake.write(place(), enter)
    assert len(tries) == 2
    assert [row["samples"] for row in catalog.summary()] == [{"train": 4}]


def test_a_restart_of_the_database_delays_a_writer(on_postgres, postgres):
    from deploy.local_team import restart_postgres

    of, tries = dataset("A", 4), []

    def enter(db):
        tries.append(1)
        if len(tries) == 1:
            restart_postgres(postgres)
        catalog_rows.replace_dataset(db, of)

    catalog.record_decisions()
    lake.write(place(), enter)
    assert tries and [row["samples"] for row in catalog.summary()] == [{"train": 4}]


def test_whoever_always_comes_second_is_told(on_postgres, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CATALOG_WAIT_SECONDS", "0")
    monkeypatch.setattr(lake, "LONGEST_PAUSE", 0.01)
    catalog.record_decisions()

    def take(db):
        lake.take_turn(db, "A")

    def lose(db):
        take(db)
        with ThreadPoolExecutor(1) as other:
            other.submit(lake.write, place(), take).result()

    with pytest.raises(catalog.CatalogInUse, match="other writers came first 8 times"):
        lake.write(place(), lose)


def test_a_failed_transaction_leaves_nothing(a_lake, monkeypatch):
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(catalog_rows, "_add_concepts", lambda *_: 1 / 0)
        Life()
    assert catalog.summary() == []


def test_a_catalog_is_copied_both_ways_whole(a_lake, monkeypatch, tmp_path):
    lived()
    found, back = content(), tmp_path / "back.duckdb"
    done = catalog_copy.copy(a_lake, back)
    assert done.tables["samples"].rows == 7 and not done.was_there
    assert catalog_copy.copy(a_lake, back).was_there
    other = parsed(f"ducklake:{tmp_path}/other.ducklake")
    assert catalog_copy.copy(back, other).tables == done.tables
    monkeypatch.setenv("EVERGREEN_CATALOG", str(other))
    monkeypatch.delenv("EVERGREEN_CATALOG_DATA", raising=False)
    assert content() == found


def test_a_filled_place_is_not_copied_over(a_lake, tmp_path):
    Life()
    catalog_copy.copy(a_lake, tmp_path / "copy.duckdb")
    catalog.record_ingest([dataset("C", 1)], [])
    with pytest.raises(ValueError, match="is neither empty nor the same"):
        catalog_copy.copy(a_lake, tmp_path / "copy.duckdb")


def test_a_lake_is_made_again_from_the_store(a_lake):
    lived()
    before = content()
    lake.write(a_lake, lambda db: db.execute("DELETE FROM samples; DELETE FROM steps"))
    done = rebuild()
    assert content() == before
    assert done.entered == {"samples": 2, "captions": 2, "stream": 1} and done.kept.startswith("snapshot ")


@pytest.mark.parametrize("sql", [
    "DELETE FROM samples", "FROM read_text('/etc/hostname')", "SELECT * FROM glob('/*')", "ATTACH 'x.duckdb'",
    "FROM postgres_query('__ducklake_metadata_catalog', 'SELECT 1')", "SET enable_external_access = true", "SELEKT",
])  # fmt: skip
def test_a_question_that_writes_or_reaches_out_is_refused(a_lake, sql):
    Life()
    with pytest.raises(ValueError, match="the catalog"):
        catalog.query(sql)


def test_an_older_lake_is_migrated_by_whoever_asks(a_lake, monkeypatch):
    newest = catalog_database.MIGRATIONS
    with monkeypatch.context() as patch:
        for module in (catalog_database, catalog):
            patch.setattr(module, "MIGRATIONS", newest[:1])
        lake.write(a_lake, lambda db: db.execute(
            "INSERT INTO captions VALUES ('OLD/train/1', 'OLD', 'default', ['one', 'two'], 'benchmark', 'sha256:2')"
        ))  # fmt: skip
    texts = catalog.query("SELECT position, text FROM captions ORDER BY position")
    assert texts == [{"position": 0, "text": "one"}, {"position": 1, "text": "two"}]


def test_a_wrong_password_or_other_files_are_told_at_once(on_postgres, monkeypatch):
    catalog.record_decisions()
    with monkeypatch.context() as patch, pytest.raises(ValueError, match=r"cannot be opened .*PGPASSFILE"):
        patch.setenv("PGPASSWORD", "wrong")
        catalog.summary()
    monkeypatch.setenv("EVERGREEN_CATALOG_DATA", "s3://another/lake")
    with pytest.raises(ValueError, match="EVERGREEN_CATALOG_DATA"):
        catalog.summary()
