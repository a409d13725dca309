"""What a DuckLake needs of us besides DuckDB: retries, one writer per subject, questions that stay inside."""

import duckdb
import pytest

from data_catalog import catalog_database, lake
from data_catalog.outage import CatalogInUse, Outage

CONFLICT = duckdb.TransactionException("Transaction conflict - attempting to insert into table with index 3")
AWAY = duckdb.IOException('Unable to connect to Postgres at "dbname=lake": Connection refused')


class Attempts:
    """Fails so many times, then gives the number of the attempt."""

    def __init__(self, failures, error):
        self.made, self.failures, self.error = 0, failures, error

    def __call__(self):
        self.made += 1
        if self.made <= self.failures:
            raise self.error
        return self.made


@pytest.mark.parametrize("error", [CONFLICT, AWAY], ids=["conflict", "away"])
def test_a_transaction_that_lost_is_tried_again_after_longer_pauses(error):
    pauses = []
    assert lake.retried(Attempts(5, error), "lake", pauses.append) == 6
    longest = [lake.FIRST_PAUSE * 2**n for n in range(5)]
    assert all(top / 2 <= pause <= top for pause, top in zip(pauses, longest, strict=True))


@pytest.mark.parametrize("error, kind, said", [
    (CONFLICT, CatalogInUse, "other writers came first 8 times"), (AWAY, Outage, "does not answer.*Connection refused"),
])  # fmt: skip
def test_whoever_always_loses_gives_up_after_the_wait(error, kind, said, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CATALOG_WAIT_SECONDS", "0")
    attempts = Attempts(100, error)
    with pytest.raises(kind, match=said):
        lake.retried(attempts, "lake", lambda _: None)
    assert attempts.made == lake.ATTEMPTS


@pytest.mark.parametrize("error, kind", [
    (duckdb.IOException('Unable to connect: FATAL: password authentication failed for user "e"'), ValueError),
    (duckdb.IOException('FATAL: database "nodb" does not exist'), ValueError),
    (duckdb.IOException("Cannot open file part.parquet"), Outage),
    (duckdb.BinderException("no such column"), duckdb.BinderException),
    (ZeroDivisionError(), ZeroDivisionError),
])  # fmt: skip
def test_what_waiting_will_not_change_is_raised_at_once(error, kind):
    attempts = Attempts(1, error)
    with pytest.raises(kind):
        lake.retried(attempts, "lake", lambda _: pytest.fail("waited"))
    assert attempts.made == 1


@pytest.mark.parametrize("sql", [
    "FROM postgres_query('__ducklake_metadata_catalog', 'SELECT 1')", "FROM POSTGRES_SCAN ('', 'public', 't')",
    "FROM __ducklake_metadata_catalog.ducklake_table", "FROM ducklake_snapshots('catalog')",
])  # fmt: skip
def test_a_question_to_the_database_behind_is_refused(sql):
    with pytest.raises(ValueError, match="questions on its tables"):
        lake.refuse_what_reaches_aside(sql)


def test_a_question_on_tables_is_not_refused():
    lake.refuse_what_reaches_aside("SELECT text FROM captions WHERE text LIKE '%postgres_%' AND shard = 'pg/1.tar'")


def test_an_extension_that_cannot_be_had_says_what_to_install():
    with (
        duckdb.connect() as db,
        pytest.raises(Outage, match=r"needs DuckDB's extension nowhere.*evergreen\[ducklake\]"),
    ):
        db.execute("SET custom_extension_repository = '/nowhere'")
        lake.load_extension(db, "nowhere")


def test_the_schema_has_nothing_that_a_lake_refuses():
    folder = catalog_database.files("data_catalog")
    texts = [lake.adapted((folder / name).read_text()).upper() for name in catalog_database.MIGRATIONS]
    refused = ("PRIMARY KEY", "UNIQUE", "REFERENCES", "CREATE INDEX", "SEQUENCE", " CHECK (", "ON CONFLICT")
    assert not [word for text in texts for word in refused if word in text]
