import pytest

from data_catalog import store
from models.evaluation.record import find_record, load_record, store_record


def test_a_record_of_another_version_is_said_to_be_one(record):
    other = record.model_dump_json().replace('"adaptation"', '"learned"', 1)
    digest = store.write_bytes(other.encode(), kind="experiment record")
    with pytest.raises(ValueError, match=r"this version can read .adaptation: Field required") as raised:
        load_record(digest)
    assert len(str(raised.value)) < 300


def test_an_experiment_that_is_not_there_is_named_with_those_that_are(record):
    with pytest.raises(ValueError, match="known: none"):
        find_record("demo-seed0")
    store_record(record.model_copy(update={"name": "demo"}))
    store_record(record.model_copy(update={"name": "other", "seed": 3}))
    with pytest.raises(ValueError, match="known: demo-seed0, other-seed3"):
        find_record("../demo-seed0")
    assert find_record("other-seed3").seed == 3
