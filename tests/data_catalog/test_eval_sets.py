"""What the images of a split are scored against."""

import json

import pytest

from data_catalog import store
from data_catalog.eval_sets import compose_eval_set
from data_catalog.exclusions import exclude


def test_classification_asks_for_all_classes_in_order(datasets):
    eval_set = compose_eval_set(datasets["SHAPES"])
    texts = json.loads(store.read_bytes(eval_set.texts))
    assert texts == ["A photo of a circle.", "A photo of a square.", "A photo of a star."]
    assert store.read_table(eval_set.digest)["target"].to_pylist() == [0, 1, 2]


def test_an_image_of_a_retrieval_set_owns_its_captions_by_position(datasets):
    eval_set = compose_eval_set(datasets["SCENES"])
    texts = json.loads(store.read_bytes(eval_set.texts))
    bounds = [(row["first_text"], row["last_text"]) for row in store.read_table(eval_set.digest).to_pylist()]
    assert [texts[a:b] for a, b in bounds] == [["view 0"], ["view 1", "sight 1"], ["view 2"]]


def test_a_split_without_samples_is_an_error(datasets):
    with pytest.raises(ValueError, match=r"BROAD has no sample in split 'test', only in \['train'\]"):
        compose_eval_set(datasets["BROAD"])


def test_leaked_images_are_not_clean(datasets):
    images = store.read_table(compose_eval_set(datasets["SHAPES"]).digest)
    leaked = exclude({images["id"][1].as_py(): "exact duplicate of x", "ELSEWHERE/test/1": ""}, "mark", "leaks")
    marked = store.read_table(compose_eval_set(datasets["SHAPES"], leaked=leaked).digest)
    assert marked["clean"].to_pylist() == [True, False, True]
    assert marked.drop_columns(["clean"]).equals(images)


def test_without_known_leaks_no_image_is_called_clean(datasets):
    assert "clean" not in store.read_table(compose_eval_set(datasets["SHAPES"]).digest).column_names
