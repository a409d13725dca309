"""A catalog is copied whole or not at all, and never over another."""

import json

import duckdb
import pytest
from typer.testing import CliRunner

from data_catalog import catalog, catalog_copy
from data_catalog.catalog_place import place
from flows.cli import app
from tests.data_catalog.fabricated import Life, dataset


@pytest.fixture
def other(tmp_path):
    Life().record()
    return tmp_path / "other" / "copy.duckdb"


def moved(monkeypatch, to):
    monkeypatch.setenv("EVERGREEN_CATALOG", str(to))


def test_a_copy_answers_as_the_original_does(other, monkeypatch):
    views = ("lineage_samples", "lineage_checkpoints", "samples", "ingest_runs")
    before = [catalog.query(f"FROM {view} ORDER BY ALL") for view in views]
    done = catalog_copy.copy(place(), other)
    assert (done.tables["samples"].rows, done.tables["step_draws"].rows, done.was_there) == (7, 7, False)
    moved(monkeypatch, other)
    assert [catalog.query(f"FROM {view} ORDER BY ALL") for view in views] == before


def test_copying_again_finds_it_there(other):
    first = catalog_copy.copy(place(), other)
    again = catalog_copy.copy(place(), other)
    assert again.was_there and again.tables == first.tables


def test_a_catalog_that_differs_is_left_alone(other):
    catalog_copy.copy(place(), other)
    before = other.read_bytes()
    catalog.record_ingest([dataset("A", 4)], [])  # as many rows, one with other bytes
    with pytest.raises(ValueError, match="is neither empty nor the same as"):
        catalog_copy.copy(place(), other)
    assert other.read_bytes() == before


def test_a_copy_that_differs_from_its_source_is_not_kept(other, monkeypatch):
    asked = []
    real = catalog_copy.counts

    def miscounting(db, name):
        asked.append(name)
        found = real(db, name)
        return found | {"samples": catalog_copy.Count(rows=0, checksum="0")} if len(asked) == 4 else found

    monkeypatch.setattr(catalog_copy, "counts", miscounting)
    with pytest.raises(RuntimeError, match="the copy differs in samples"):
        catalog_copy.copy(place(), other)
    with duckdb.connect(str(other), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM duckdb_tables()").fetchone() == (0,)


def test_nothing_is_copied_from_nowhere_or_onto_itself(other, tmp_path):
    with pytest.raises(ValueError, match="there is no catalog"):
        catalog_copy.copy(tmp_path / "none.duckdb", other)
    with pytest.raises(ValueError, match="is both"):
        catalog_copy.copy(place(), place())
    assert not other.exists()


def test_the_commands_say_what_was_copied(other, monkeypatch):
    told = json.loads(CliRunner().invoke(app, ["catalog", "export", str(other), "--json"]).stdout)
    assert told["tables"]["samples"]["rows"] == 7 and told["target"] == str(other)
    source = str(place())
    moved(monkeypatch, other)
    assert "held the same already" in CliRunner().invoke(app, ["catalog", "import", source]).stdout
