"""Where the catalog lies is read from the environment; secrets and half-told places are refused."""

from pathlib import Path

import pytest

from data_catalog.catalog_place import Lake, parsed, place

POSTGRES = "ducklake:postgres:dbname=lake host=db.example user=evergreen"


def test_a_file_is_the_default(monkeypatch):
    monkeypatch.delenv("EVERGREEN_CATALOG", raising=False)
    assert place().name == "catalog.duckdb" and isinstance(place(), Path)
    assert parsed("other.duckdb") == Path("other.duckdb").resolve()


def test_a_lake_on_postgresql_says_where_its_files_lie(monkeypatch):
    monkeypatch.setenv("EVERGREEN_CATALOG", POSTGRES)
    monkeypatch.setenv("EVERGREEN_CATALOG_DATA", "s3://bucket/lake/")
    assert place() == Lake(index=POSTGRES.removeprefix("ducklake:"), data="s3://bucket/lake/")
    assert place().is_shared and str(place()) == POSTGRES


def test_a_lake_with_its_index_in_a_file_has_its_files_beside_it(tmp_path):
    lake = parsed(f"ducklake:{tmp_path}/a.ducklake")
    assert (lake.data, lake.is_shared) == (f"{tmp_path}/a.ducklake.files/", False)


@pytest.mark.parametrize("text", [
    f"{POSTGRES} password=hunter2", f"{POSTGRES} PassWord = 'hunter2'", f"{POSTGRES} sslpassword=hunter2",
    "ducklake:postgres:postgresql://evergreen:hunter2@db.example/lake",
    "ducklake:postgres:postgresql://evergreen@db.example/lake?password=hunter2",
])  # fmt: skip
def test_a_password_is_refused_and_not_repeated(text):
    with pytest.raises(ValueError, match=r"holds a password: .*PGPASSFILE") as refused:
        parsed(text, "s3://bucket/lake")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("text, data, said", [
    (POSTGRES, None, "EVERGREEN_CATALOG_DATA is missing"),
    (POSTGRES, "gs://bucket/lake", "at s3://"),
    (POSTGRES, "s3://key:secret@bucket/lake", "EVERGREEN_CATALOG_DATA holds a secret"),
    ("ducklake:", None, "expected ducklake:postgres:"),
    ("ducklake:mysql:db=lake", None, "expected ducklake:postgres:"),
    ("s3://bucket/catalog.duckdb", None, "a DuckDB file or a DuckLake"),
])  # fmt: skip
def test_a_place_that_cannot_be_is_refused(text, data, said):
    with pytest.raises(ValueError, match=said):
        parsed(text, data)
