"""The catalog: written once per change, shared politely, rebuilt from the store."""

import subprocess
import sys

import pytest

from data_catalog import catalog
from data_catalog.mixture import Mixture
from data_catalog.orderings import Random
from data_catalog.places import catalog_path
from data_catalog.shards import ingest
from data_catalog.stream import compose_step, compose_stream

HOLD = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def recorded(datasets, captions):
    catalog.record_ingest(list(datasets.values()), captions)
    return catalog_path()


def test_summary_counts_what_was_recorded(recorded):
    shapes = next(row for row in catalog.summary() if row["dataset"] == "SHAPES")
    assert shapes["samples"] == {"train": 11, "test": 3}
    assert (shapes["concepts"], shapes["captions"], shapes["quarantined"]) == (3, 14, 4)


def test_recording_again_leaves_the_file_untouched(recorded, datasets, captions):
    before = (recorded.stat().st_mtime_ns, recorded.read_bytes())
    assert catalog.record_ingest(list(datasets.values()), captions) is False
    assert (recorded.stat().st_mtime_ns, recorded.read_bytes()) == before


def test_a_changed_dataset_replaces_its_samples(recorded, tiny_benchmark, tiny_source):
    (tiny_benchmark / "SHAPES/extra.png").unlink()
    (tiny_benchmark / "SHAPES/circle/0.png").unlink()
    changed = ingest(tiny_source, tiny_source.scan()[-1])
    assert catalog.record_ingest([changed], []) is True
    assert next(row for row in catalog.summary() if row["dataset"] == "SHAPES")["samples"]["train"] == 10


def test_reasons_for_refusal_can_be_asked(recorded):
    assert [row["id"] for row in catalog.quarantined("SCENES")] == ["SCENES/../evil.png"]
    assert len(catalog.quarantined()) == 5


@pytest.fixture
def trained(recorded, datasets, captions):
    """A recorded stream of which one step was trained; the file is given back."""
    plan = compose_stream(list(datasets.values()), captions, Random(), 3, 0, ["BROAD"])
    data = compose_step(plan, 0, Mixture(pretraining=1, update=0, buffer=0), 6, 2, 0)
    step = catalog.TrainedStep(recipe="merged", step=0, step_plan=data.digest, checkpoint=f"sha256:{'a' * 64}")
    return plan, [step]


def test_a_sample_knows_the_checkpoints_that_saw_it_and_the_reverse(trained):
    plan, steps = trained
    assert catalog.record_stream("demo", plan, steps) is True
    seen = {"stream": "demo", "recipe": "merged", "step": 0, "pool": "pretraining", "draws": 2}
    assert catalog.checkpoints_with_sample("BROAD/train/0.png") == [seen | {"checkpoint": steps[0].checkpoint}]
    assert catalog.checkpoints_with_sample("SHAPES/train/star/0.png") == []
    drawn = catalog.samples_of_checkpoint(steps[0].checkpoint)
    assert {row["dataset"] for row in drawn} == {"BROAD"} and sum(row["draws"] for row in drawn) == 12


def test_a_stream_recorded_again_leaves_the_file_untouched(recorded, trained):
    catalog.record_stream("demo", *trained)
    before = (recorded.stat().st_mtime_ns, recorded.read_bytes())
    assert catalog.record_stream("demo", *trained) is False
    assert (recorded.stat().st_mtime_ns, recorded.read_bytes()) == before


def test_a_damaged_catalog_is_named_and_written_again(recorded, datasets, captions):
    before = catalog.summary()
    recorded.write_bytes(b"no database at all" * 1000)
    with pytest.raises(ValueError, match="delete it"):
        catalog.summary()
    recorded.unlink()
    catalog.record_ingest(list(datasets.values()), captions)
    assert catalog.summary() == before


def test_questions_in_sql_are_answered(recorded):
    sql = "SELECT concept, count(*) AS n FROM samples WHERE dataset = ? GROUP BY ALL ORDER BY ALL"
    assert catalog.query(sql, ["BROAD"]) == [{"concept": "cat", "n": 3}, {"concept": "dog", "n": 3}]


@pytest.mark.parametrize("sql", [
    "DELETE FROM samples", "CREATE TABLE mine AS SELECT 1", "COPY samples TO 'out.csv'", "SELECT 1; SELECT 2",
    "FROM read_text('/etc/hostname')", "FROM '/etc/hostname'", "SELECT * FROM glob('/*')", "ATTACH 'x.duckdb'",
    "FROM read_csv('https://example.org/a.csv')", "SET enable_external_access = true", "INSTALL httpfs", "SELEKT", "",
])  # fmt: skip
def test_a_question_that_writes_or_reaches_out_is_refused(recorded, sql):
    before = recorded.read_bytes()
    with pytest.raises(ValueError, match="the catalog"):
        catalog.query(sql)
    assert recorded.read_bytes() == before


def test_an_empty_home_has_an_empty_catalog():
    assert catalog.summary() == [] and not catalog_path().exists()


def test_a_failed_transaction_leaves_nothing(recorded, datasets, captions, monkeypatch):
    recorded.unlink()
    monkeypatch.setattr(catalog, "_add_captions", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        catalog.record_ingest(list(datasets.values()), captions)
    assert catalog._ask("SELECT table_name FROM duckdb_tables()") == []


def test_another_program_in_the_catalog_is_named_after_the_wait(recorded, monkeypatch):
    monkeypatch.setattr(catalog, "WAIT_SECONDS", 0.0)
    with subprocess.Popen([sys.executable, "-c", HOLD, recorded], stdin=-1, stdout=-1) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError, match=r"catalog\.duckdb was in use.*close the program"):
            catalog.summary()
        holder.stdin.close()
    assert catalog.summary()
