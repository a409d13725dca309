"""Metadata as Arrow tables: the same values as entry by entry, however mixed they are."""

import json

import pytest

from data_catalog import metadata_tables
from data_catalog.metadata import CAPTIONS, texts_of
from data_catalog.metadata_tables import joined, read_table

NONE = dict.fromkeys(CAPTIONS)
MIXED = [None, "one", ["one"], ["same", "same"], ["a", "b"], [], "", " ", ["", "x"], ["a", "b", "a"]]


def entry(**changes):
    return {"classname": "cat", "target": 0, **NONE} | changes


def read(tmp_path, entries, name="X_train.json"):
    (tmp_path / name).write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return read_table(tmp_path / name)


@pytest.mark.parametrize("values", [MIXED, MIXED[:1], MIXED[:2], MIXED[1:3], MIXED[2:6]], ids=len)
def test_every_kind_of_caption_value_is_read_as_alone(tmp_path, values):
    entries = {str(i): entry(synthetic_caption=value) for i, value in enumerate(values)}
    assert read(tmp_path, entries)["synthetic_caption"].to_pylist() == [texts_of(value) for value in values]


@pytest.mark.parametrize(
    ("key", "changes", "fault"),
    [
        ("../a", {}, "leaves the folder"),
        ("/a", {}, "leaves the folder"),
        ("a/../b", {}, "leaves the folder"),
        ("a", {"target": "3"}, "target is '3'"),
        ("a", {"target": True}, "target is True"),
        ("a", {"target": -1}, "target is -1"),
        ("a", {"target": 2.0}, "target is 2.0"),
        ("a", {"target": 2**40}, "target is 1099511627776"),
        ("a", {"classname": " "}, "classname is ' '"),
        ("a", {"classname": 7}, "classname is 7"),
        ("a", {"default_caption": {"x": 1}}, "default_caption is"),
        ("a", {"default_caption": ["x", None]}, "default_caption is"),
        ("a", {"default_caption": "\ud800"}, "default_caption is not valid Unicode"),
        ("\ud800", {}, "key is not valid Unicode"),
    ],
)
def test_one_malformed_entry_gets_its_fault_and_spoils_no_other(tmp_path, key, changes, fault):
    table = read(tmp_path, {key: entry(**changes), "good": entry(default_caption="fine")}).to_pylist()
    assert fault in table[0]["fault"]
    assert (table[1]["fault"], table[1]["default_caption"]) == (None, ["fine"])


def test_a_missing_field_is_a_fault(tmp_path):
    table = read(tmp_path, {"a": {"classname": "cat", "target": 0}})
    assert "default_caption is missing" in table["fault"][0].as_py()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {,}}', "line 1, column 8"),
        ('{"a": 1}', "is not a metadata file"),
        ("[]", "is not valid JSON"),
        ('{"a": {}} x', "Extra data"),
        ('{"a": {}', "Expecting '}'"),
        ('{"a": {"x": 1, "x": 2}}', "the key 'x' more than once in the entry 'a'"),
        ('{"a": {}, "a": {}}', "the key 'a' more than once"),
    ],
)
def test_malformed_files_are_errors_that_say_where(tmp_path, text, message):
    with pytest.raises(ValueError, match=rf"X_train\.json.*{message}"):
        read(tmp_path, text)


def test_batches_make_no_difference(tmp_path, monkeypatch):
    entries = {str(i): entry(target=i, default_caption=["a", str(i)]) for i in range(10)}
    whole = read(tmp_path, entries)
    monkeypatch.setattr(metadata_tables, "BATCH", 3)
    assert read(tmp_path, entries).equals(whole)


def test_files_are_joined_by_key_in_the_order_of_the_base(tmp_path):
    base = read(tmp_path, {"a": entry(), "b": entry(default_caption="own")})
    small = {f"X_train_224/{key}": entry(default_caption=f"small {key}") for key in ("c", "b", "a")}
    table = joined(base, read(tmp_path, small, "X_train_224.json"), "X_train_224/")
    assert table["key"].to_pylist() == ["a", "b", "c"]
    assert table["default_caption"].to_pylist() == [["small a"], ["own"], ["small c"]]
