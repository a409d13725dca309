"""The commands on lineage, removal and the catalog, as a user types them."""

import io
import json
import sys

import pytest

from data_catalog import catalog, decisions
from data_catalog.places import catalog_path
from tests.data_catalog.fabricated import Life


@pytest.fixture
def life():
    lived = Life()
    lived.record()
    return lived


@pytest.mark.parametrize("name", ["A/train/0", "life/merged/1", "B"])
def test_lineage_answers_for_a_sample_a_step_and_a_dataset(evergreen, life, name):
    code, out, _ = evergreen("lineage", name, "--json")
    found = json.loads(out)
    assert code == 0 and found["name"] == name
    assert {row["how"] for row in found["checkpoints"]} <= {"direct", "inherited"}
    code, out, _ = evergreen("lineage", name)
    assert code == 0 and "checkpoints" in out


def test_lineage_of_a_checkpoint_shows_origin_and_captions(evergreen, life):
    code, out, _ = evergreen("lineage", life.expert0, "--texts", "1", "--json")
    found = json.loads(out)
    assert code == 0 and found["origins"][0]["made_by"] == "update"
    assert [(row["text"], row["draws"]) for row in found["captions"]] == [("b zero", 3)]


def test_lineage_of_nothing_is_bad_input(evergreen, life):
    code, out, err = evergreen("lineage", "A/train/99")
    assert code == 2 and out == "" and "nothing is recorded of 'A/train/99'" in err


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_forget_without_a_reason_or_consent_changes_nothing(evergreen, life, monkeypatch, answer):
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    assert evergreen("forget", "--dataset", "B")[0] == 2
    assert evergreen("forget", "--dataset", "B", "--reason", "licence")[0] == 1
    assert evergreen("forget", "--dataset", "B", "--reason", "licence", "--json")[0] == 2
    assert decisions.decisions() == []


def test_a_dry_run_lists_who_saw_the_samples_and_decides_nothing(evergreen, life):
    code, out, _ = evergreen("forget", "--sample", "A/train/1", "--dry-run", "--json")
    found = json.loads(out)
    assert code == 0 and found["decision"] is None and decisions.decisions() == []
    assert found["checkpoints"] == {"direct": [life.expert0], "inherited": sorted([life.merged0, life.expert1])}


def test_forget_enters_the_ledger_and_can_be_taken_back(evergreen, life):
    asked = ("--where", "dataset = 'B'", "--reason", "licence")
    code, out, _ = evergreen("forget", *asked, "--yes", "--json")
    assert code == 0 and json.loads(out)["decision"]["rule"] == "--where dataset = 'B'"
    assert decisions.removals().samples == 3
    code, out, _ = evergreen("forget", *asked, "--undo", "--json")
    assert code == 0 and len(json.loads(out)["samples"]) == 3 and decisions.removals() is None
    code, out, _ = evergreen("forget", "--list", "--json")
    assert [made["kind"] for made in json.loads(out)["decisions"]] == ["forget", "withdraw_forget"]


def test_copies_are_forgotten_with_the_original_when_asked(evergreen, life):
    code, out, _ = evergreen("forget", "--sample", "A/train/0", "--reason", "asked", "--with-copies", "--yes", "--json")
    assert code == 0 and json.loads(out)["samples"] == ["A/train/0", "A/train/3"]
    assert list(decisions.in_force("forget")) == ["A/train/0", "A/train/3"]


def test_forget_prints_tables_for_people(evergreen, life):
    code, out, _ = evergreen("forget", "--sample", "A/train/1", "--reason", "asked", "--yes")
    assert code == 0 and "decision 1: plans from now on leave 1 samples out" in out
    assert evergreen("forget", "--list")[0] == 0


def test_unknown_samples_are_bad_input(evergreen, life):
    code, _, err = evergreen("forget", "--sample", "A/train/77", "--reason", "asked", "--yes")
    assert code == 2 and "were never recorded, first 'A/train/77'" in err


def test_the_catalog_answers_sql(evergreen, life):
    code, out, _ = evergreen("catalog", "query", "SELECT id, hash FROM samples ORDER BY id LIMIT 1", "--json")
    (row,) = json.loads(out)
    assert code == 0 and row["id"] == "A/train/0" and len(row["hash"]) == 64
    assert evergreen("catalog", "query", "FROM samples")[0] == 0
    assert evergreen("catalog", "query", "DROP TABLE samples")[0] == 2


def test_the_catalog_is_rebuilt(evergreen, life):
    before = catalog.summary()
    catalog_path().write_bytes(b"damaged" * 1000)
    assert evergreen("catalog", "rebuild")[0] == 0
    assert catalog.summary() == before
