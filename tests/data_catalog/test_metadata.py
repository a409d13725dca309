"""Metadata files: their values and what is wrong with them."""

import json

import pytest

from data_catalog.metadata import check_metadata, fill, texts_of

GOOD = {"classname": "forest", "target": 10, "default_caption": None,
        "primer_caption": "A satellite image of a forest.",
        "synthetic_caption": ["a", "b"], "synthetic_merged_caption": "trees"}  # fmt: skip


def checked(tmp_path, **entries):
    path = tmp_path / "CLRS_test.json"
    path.write_text(json.dumps(entries))
    return check_metadata(path)


@pytest.mark.parametrize(
    ("value", "texts"),
    [(None, None), ("a", ["a"]), (["a"], ["a"]), (["a", "a"], ["a"]), (["a", "b", "a"], ["a", "b", "a"]), ([], None)],
)
def test_every_kind_of_caption_value_becomes_a_list(value, texts):
    assert texts_of(value) == texts


def test_a_number_is_no_caption():
    with pytest.raises(ValueError, match="is 3, expected null"):
        texts_of(3)


def test_underscores_may_stand_for_spaces():
    assert fill("A {}.", "a_b{}", "underscores_to_spaces") == "A a b{}."
    assert fill("A {}.", "a_b") == "A a_b."


def test_a_good_file_has_no_problems(tmp_path):
    found = checked(tmp_path, **{"a.jpg": GOOD, "b.jpg": GOOD | {"synthetic_merged_caption": None}})
    assert found | {"file": ""} == {
        "file": "", "entries": 2, "with_training_text": 1, "template_mismatches": 0, "problems": []
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"target": "10"}, "target is '10'"),
        ({"target": 25}, "beyond the 25 classes"),
        ({"classname": None}, "classname is null"),
        ({"synthetic_caption": 1}, "synthetic_caption is 1"),
        ({"target": 11}, "'forest' has 2 targets"),
        ({"classname": "wood"}, "target 10 has 2 class names"),
    ],
)
def test_faults_are_told(tmp_path, change, problem):
    assert problem in " ".join(checked(tmp_path, **{"a.jpg": GOOD, "b.jpg": GOOD | change})["problems"])


def test_missing_keys_and_other_templates_are_counted(tmp_path):
    incomplete = {key: value for key, value in GOOD.items() if key != "default_caption"}
    found = checked(
        tmp_path, **{"a.jpg": incomplete, "b.jpg": incomplete, "c.jpg": GOOD | {"primer_caption": "A forest."}}
    )
    assert found["problems"] == ["2 of the entries: default_caption is missing (first: 'a.jpg')"]
    assert found["template_mismatches"] == 1


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": {}, "a": {}}', "{", "\xff"])
def test_files_that_are_no_metadata_are_errors_with_their_name(tmp_path, text):
    (tmp_path / "CLRS_test.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"CLRS_test\.json"):
        check_metadata(tmp_path / "CLRS_test.json")
