"""The catalog: written once per change, shared politely, rebuilt from the store."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from data_catalog import catalog, store
from data_catalog.caption_rows import CaptionScores, given_rows
from data_catalog.duplicates import DUPLICATES, DuplicateGroups
from data_catalog.exclusions import exclude
from data_catalog.places import catalog_path
from data_catalog.shards import ingest
from tests.data_catalog.fabricated import Life

HOLD = "import duckdb, sys; db = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def life():
    """A recorded life; its stream is not recorded yet."""
    return Life()


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


def test_a_stream_recorded_again_leaves_the_file_untouched(life):
    assert life.record() is True
    before = (catalog_path().stat().st_mtime_ns, catalog_path().read_bytes())
    assert life.record() is False
    assert (catalog_path().stat().st_mtime_ns, catalog_path().read_bytes()) == before


def test_a_stream_recorded_anew_takes_the_place_of_the_former(life):
    life.record()
    life.steps = life.steps[:1]
    assert life.record() is True
    assert catalog.query("SELECT count(*) AS n FROM steps") == [{"n": 1}]
    assert catalog.query("SELECT count(*) AS n FROM stream_members") == [{"n": 7}]


def test_what_a_stream_was_planned_without_is_recorded(life):
    removed = exclude({"A/train/3": "licence"}, "drop", "removal requests")
    catalog.record_stream("life", life.plan, life.steps, [removed])
    found = {"effect": "drop", "cause": "removal requests", "sample": "A/train/3", "reason": "licence"}
    assert catalog.query("SELECT * EXCLUDE stream FROM exclusions") == [found]


def test_texts_that_came_with_the_data_are_captions_too(recorded, datasets):
    sql = "SELECT kind, count(*) AS n FROM captions WHERE captioner = 'given' AND dataset = 'SHAPES' GROUP BY kind"
    found = {row["kind"]: row["n"] for row in catalog.query(sql)}
    assert found == Counter(given_rows(datasets["SHAPES"])["kind"].to_pylist())
    catalog.record_ingest([datasets["SHAPES"]], [])
    assert {row["kind"]: row["n"] for row in catalog.query(sql)} == found


def test_scores_of_captions_are_recorded_once(life):
    rows = [{"sample": f"A/train/{i}", "position": 0, "clip_score": 0.25 * i} for i in range(4)]
    digest, of = store.write_table(pa.Table.from_pylist(rows)), life.captions[0]
    scores = CaptionScores(digest=digest, dataset=of.dataset, captions=of.digest, name="A", checkpoint=life.pretrained)
    assert [catalog.record_scores(scores), catalog.record_scores(scores)] == [True, False]
    best = catalog.query("SELECT text, clip_score FROM scored_captions ORDER BY clip_score DESC LIMIT 1")
    assert best == [{"text": "A 3", "clip_score": 0.75}]


def test_duplicates_are_recorded_once(life):
    rows = [{"sample": f"A/train/{i}", "dataset": "A", "split": "train", "group": 0, "kind": "exact", "distance": 0.0}
            for i in (0, 3)]  # fmt: skip
    digest = store.write_table(pa.Table.from_pylist(rows, DUPLICATES))
    counts = {"exact": 2}
    groups = DuplicateGroups(
        digest=digest, datasets={}, groups={"exact": 1}, samples=counts, compared=counts, not_compared={}
    )
    assert [catalog.record_duplicates(groups), catalog.record_duplicates(groups)] == [True, False]
    assert [row["sample"] for row in catalog.query("FROM duplicates ORDER BY sample")] == ["A/train/0", "A/train/3"]


@pytest.mark.parametrize("damage", [
    lambda data: b"no database at all" * 1000,
    lambda data: data[: len(data) // 2],
    lambda data: data[:4100] + b"\xff" * 64 + data[4164:],
    lambda data: data[:8200] + b"\xff" * 64 + data[8264:],
])  # fmt: skip
def test_a_damaged_catalog_is_named_with_what_to_do(life, damage):
    path = catalog_path()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(catalog.DamagedCatalog, match=r"catalog\.duckdb is damaged.*`evergreen catalog rebuild`"):
        catalog.summary()


def older(path):
    """A catalog as the first version left it, with a few rows."""
    texts = (Path(catalog.__file__).parent / "schema.sql").read_text()
    with duckdb.connect() as db:
        db.execute(f"ATTACH '{path}' AS old (STORAGE_VERSION 'v1.5.0'); USE old; {texts}")
        db.execute("CREATE TABLE schema_migrations (number INTEGER PRIMARY KEY, applied_at TIMESTAMP)")
        db.execute("INSERT INTO schema_migrations VALUES (1, now()::TIMESTAMP)")
        db.execute("INSERT INTO datasets VALUES ('OLD', 'sha256:1', 'classification', 'A {}.', NULL)")
        db.execute("INSERT INTO samples VALUES ('OLD/train/1','OLD','train','x',0,'s/1',0,1,'\\x01',8,8,'PNG')")
        db.execute("INSERT INTO captions VALUES ('OLD/train/1','OLD','default',['one','two'],'benchmark','sha256:2')")
        db.execute("INSERT INTO steps VALUES ('life', 'merged', 0, 'plan', 'weights')")
        db.execute("INSERT INTO step_draws VALUES ('plan', 'update', 'OLD/train/1', 'OLD', 'x', 7)")


@pytest.fixture
def old_file():
    catalog_path().parent.mkdir(parents=True)
    older(catalog_path())
    return catalog_path()


def test_an_older_catalog_is_migrated_by_whoever_asks(old_file, caplog):
    before = old_file.read_bytes()
    texts = catalog.query("SELECT position, text FROM captions ORDER BY position")
    assert texts == [{"position": 0, "text": "one"}, {"position": 1, "text": "two"}]
    assert catalog.query("SELECT draws, text FROM lineage_samples") == [{"draws": 7, "text": None}]
    assert catalog.query("SELECT checkpoint, how FROM lineage_checkpoints") == [
        {"checkpoint": "weights", "how": "direct"}
    ]
    kept = old_file.with_name("catalog.duckdb.before-2")
    assert kept.read_bytes() == before and str(kept) in caplog.text


def test_a_migrated_catalog_has_the_tables_of_a_fresh_one(old_file, monkeypatch, tmp_path):
    columns = "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE NOT internal"
    asked = f"SELECT * FROM ({columns}) ORDER BY ALL"
    migrated = catalog.query(asked)
    monkeypatch.setenv("EVERGREEN_CATALOG", str(tmp_path / "fresh.duckdb"))
    catalog.record_decisions()
    assert catalog.query(asked) == migrated


def test_a_migration_that_fails_changes_nothing(old_file, monkeypatch, tmp_path):
    before = old_file.read_bytes()
    monkeypatch.setattr(catalog.catalog_rows, "add_decisions", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        catalog.summary()
    with duckdb.connect(str(old_file), read_only=True) as db:
        assert db.execute("SELECT max(number) FROM schema_migrations").fetchone() == (1,)
    assert old_file.with_name("catalog.duckdb.before-2").read_bytes() == before


def test_a_catalog_of_a_later_version_is_left_alone(life):
    with duckdb.connect(str(catalog_path())) as db:
        db.execute("INSERT INTO schema_migrations VALUES (3, now()::TIMESTAMP)")
    before = catalog_path().read_bytes()
    for use in (catalog.summary, catalog.record_decisions):
        with pytest.raises(ValueError, match="has schema version 3, this Evergreen knows versions up to 2"):
            use()
    assert catalog_path().read_bytes() == before


def test_questions_in_sql_are_answered(recorded):
    sql = "SELECT concept, count(*) AS n FROM samples WHERE dataset = ? GROUP BY ALL ORDER BY ALL"
    assert catalog.query(sql, ["BROAD"]) == [{"concept": "cat", "n": 3}, {"concept": "dog", "n": 3}]


@pytest.mark.parametrize("sql", [
    "DELETE FROM samples", "CREATE TABLE mine AS SELECT 1", "COPY samples TO 'out.csv'", "SELECT 1; SELECT 2",
    "FROM read_text('/etc/hostname')", "FROM '/etc/hostname'", "SELECT * FROM glob('/*')", "ATTACH 'x.duckdb'",
    "FROM read_csv('https://example.org/a.csv')", "SET enable_external_access = true", "INSTALL httpfs", "SELEKT", "",
])  # fmt: skip
def test_a_question_that_writes_or_reaches_out_is_refused(life, sql):
    before = catalog_path().read_bytes()
    with pytest.raises(ValueError, match="the catalog"):
        catalog.query(sql)
    assert catalog_path().read_bytes() == before


def test_an_empty_home_has_an_empty_catalog():
    assert catalog.summary() == [] and not catalog_path().exists()


def test_a_failed_transaction_leaves_nothing(monkeypatch):
    monkeypatch.setattr(catalog.catalog_rows, "_add_concepts", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Life()
    assert catalog.query("SELECT table_name FROM duckdb_tables()") == [] and catalog.summary() == []


def test_a_failure_leaves_whole_datasets_and_the_next_run_enters_the_rest(monkeypatch):
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError):
        broken.setattr(catalog.catalog_rows, "add_captions", lambda *_: 1 / 0)
        Life()
    assert [row["samples"] for row in catalog.summary()] == [{"train": 4}, {"train": 3}]
    assert [row["captions"] for row in catalog.summary()] == [0, 0]
    Life()
    assert [row["captions"] for row in catalog.summary()] == [4, 3]


@pytest.fixture
def held(life):
    """The catalog open for writing in a program that is not ours."""
    with subprocess.Popen([sys.executable, "-c", HOLD, catalog_path()], stdin=-1, stdout=-1) as holder:
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.stdin.close()


@pytest.mark.parametrize("use", [catalog.summary, catalog.record_decisions])
def test_another_program_in_the_catalog_is_named_after_the_wait(held, use, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CATALOG_WAIT_SECONDS", "0.1")
    expected = rf"catalog\.duckdb is in use by .*python.* \(PID {held.pid}\); waited 0\.1 s\. Close that program"
    with pytest.raises(catalog.CatalogInUse, match=expected):
        use()


def test_whoever_waits_goes_on_when_the_other_program_ends(held, monkeypatch):
    monkeypatch.setenv("EVERGREEN_CATALOG_WAIT_SECONDS", "30")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(catalog.summary)
        assert not wait([waiting], timeout=0.15).done
        held.stdin.close()
        assert [row["dataset"] for row in waiting.result()] == ["A", "B"]


@pytest.mark.parametrize("seconds", ["soon", "-1", "nan", "inf"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(life, monkeypatch, seconds):
    monkeypatch.setenv("EVERGREEN_CATALOG_WAIT_SECONDS", seconds)
    with pytest.raises(ValueError, match="EVERGREEN_CATALOG_WAIT_SECONDS is"):
        catalog.summary()
