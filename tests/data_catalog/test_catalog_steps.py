"""Steps of a stream without an end, entered one by one, give the lineage of a stream that is recorded whole."""

import pyarrow as pa
import pytest

from data_catalog import catalog, descent, recorded, store
from data_catalog.catalog_steps import last_step, record_steps
from data_catalog.places import catalog_path
from data_catalog.rebuild import rebuild
from data_catalog.recorded import RecordedStep
from tests.data_catalog.fabricated import Life

LINEAGE = ("steps", "step_draws", "checkpoint_parents", "checkpoint_ancestors")


@pytest.fixture
def life():
    return Life()


def fact(life: Life, step: int, sample: str) -> RecordedStep:
    arrival = store.write_table(pa.table({"dataset": ["A"], "key": [f"{sample}#ab12"]}))
    trained = life.steps[step]
    starts = catalog.starts_of([trained]) if step == 0 else ()
    return RecordedStep(name="life", step=trained, arrival=arrival, plan=life.plan.digest, steps=step + 1,
                        pretraining_samples=3, starts=starts)  # fmt: skip


def live(life: Life) -> None:
    for step, sample in ((0, "A/train/0"), (1, "A/train/x#1")):
        record_steps([fact(life, step, sample)])


def content(*tables: str) -> dict:
    return {table: catalog.query(f"SELECT * FROM {table} ORDER BY ALL") for table in tables}


def test_steps_one_by_one_give_the_lineage_of_all_at_once(life):
    live(life)
    one_by_one = content(*LINEAGE)
    catalog_path().unlink()
    catalog.record_stream("life", life.plan, life.steps[:2])
    assert content(*LINEAGE) == one_by_one


def test_what_arrived_with_a_step_are_its_members_by_their_ids(life):
    live(life)
    rows = catalog.query("SELECT step, sample FROM stream_members WHERE stream = 'life' ORDER BY step")
    assert rows == [{"step": 0, "sample": "A/train/0"}, {"step": 1, "sample": "A/train/x#1"}]
    assert catalog.query("SELECT steps FROM streams WHERE name = 'life'") == [{"steps": 2}]


def test_the_newest_step_that_is_recorded_is_known(life):
    assert last_step("life", "merged") is None
    live(life)
    assert last_step("life", "merged") == 1 and last_step("life", "other") is None


def test_entered_twice_a_step_stands_once(life):
    live(life)
    once = content("stream_members", "streams", *LINEAGE)
    live(life)
    assert content("stream_members", "streams", *LINEAGE) == once
    assert sum(entry["what"] == "step" for entry in recorded.ledger.entries(recorded.LEDGER)) == 2


def test_a_later_step_opens_only_the_weights_that_came_after_the_last(life, monkeypatch):
    record_steps([fact(life, 0, "A/train/0")])
    opened, parents = [], descent.parents
    monkeypatch.setattr(descent, "parents", lambda digest: opened.append(digest) or parents(digest))
    record_steps([fact(life, 1, "A/train/1")])
    assert opened == [life.expert1]


def test_steps_come_back_with_a_lost_catalog(life):
    live(life)
    before = content("stream_members", "streams", *LINEAGE)
    catalog_path().unlink()
    assert rebuild().entered["step"] == 2 and content("stream_members", "streams", *LINEAGE) == before
