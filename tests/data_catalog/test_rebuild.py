"""A lost catalog is made again from the store, and what cannot be is said."""

import subprocess
import sys
from pathlib import Path

import pytest

from data_catalog import catalog, decisions, store
from data_catalog.places import catalog_path
from data_catalog.rebuild import rebuild
from tests.data_catalog.fabricated import Life, dataset

TABLES = ("samples", "captions", "concepts", "stream_members", "steps", "step_draws", "checkpoint_parents", "forgotten")
HOLD = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def life():
    lived = Life()
    lived.record()
    decisions.forget(["A/train/1"], "a person asked")
    catalog.record_decisions()
    return lived


def content():
    return {table: catalog.query(f"SELECT * FROM {table} ORDER BY ALL") for table in TABLES}


def test_a_lost_catalog_comes_back_whole(life):
    before = content()
    catalog_path().unlink()
    done = rebuild()
    assert content() == before
    assert done.entered == {"samples": 2, "captions": 2, "stream": 1} and done.lost == () and done.kept is None


def test_a_damaged_catalog_is_replaced_and_kept(life):
    before = content()
    catalog_path().write_bytes(b"no database at all" * 1000)
    kept = rebuild().kept
    assert content() == before
    assert kept.endswith("catalog.duckdb.before-rebuild") and Path(kept).read_bytes().startswith(b"no database")


def test_the_last_version_of_a_dataset_counts(life):
    catalog.record_ingest([dataset("A", 2)], [])
    rebuild()
    assert catalog.query("SELECT count(*) AS n FROM samples WHERE dataset = 'A'") == [{"n": 2}]


def test_what_the_store_has_lost_is_said_and_the_rest_entered(life):
    before = content()
    store.locate(life.plans[1]).unlink()
    store.locate(life.captions[1].digest).unlink()
    done = rebuild()
    assert [line.split(":")[0] for line in done.lost] == ["captions B", "stream life"]
    assert content()["samples"] == before["samples"] and content()["steps"] == []


def test_nothing_recorded_is_nothing_to_rebuild_from():
    with pytest.raises(ValueError, match="nothing to rebuild the catalog from"):
        rebuild()
    assert not catalog_path().exists()


def test_a_catalog_in_use_is_not_taken_away(life, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CATALOG_WAIT_SECONDS", "0")
    with subprocess.Popen([sys.executable, "-c", HOLD, catalog_path()], stdin=-1, stdout=-1) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(catalog.CatalogInUse):
            rebuild()
        holder.stdin.close()


def test_rebuilding_leaves_no_scratch_behind(life):
    names = {path.name for path in catalog_path().parent.iterdir()}
    rebuild()
    assert {path.name for path in catalog_path().parent.iterdir()} - names == {"catalog.duckdb.before-rebuild"}
