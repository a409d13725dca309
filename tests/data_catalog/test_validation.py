"""Which training images are kept to choose by, and that nothing else decides it."""

import json
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from data_catalog import store
from data_catalog.eval_sets import compose_eval_set
from data_catalog.exclusions import exclude
from data_catalog.validation import HELD_OUT, Validation, compose_validation_set, hold_out, places

HALF = Validation(share=0.5)


def ids_of(eval_set):
    return store.read_table(eval_set.digest)["id"].to_pylist()


def held_out(datasets, validation=HALF):
    return set(store.read_table(hold_out(datasets, validation).digest)["sample"].to_pylist())


def test_a_place_depends_on_the_id_alone_and_is_uniform():
    names = [f"SHAPES/train/{i}" for i in range(4000)]
    whole, reverse = places(pa.array(names)), places(pa.array(names[::-1]))
    assert np.array_equal(whole, reverse[::-1]) and whole.min() >= 0 and whole.max() < 1
    assert np.allclose(np.histogram(whole, 4, (0, 1))[0], 1000, atol=120)


def test_the_place_of_a_sample_never_changes():
    assert places(pa.array(["SHAPES/train/circle/0.png"])).tolist() == [0.602795811851759]


def test_a_larger_share_keeps_every_image_of_a_smaller_one(datasets):
    small, large = (held_out(datasets.values(), Validation(share=share)) for share in (0.3, 0.7))
    assert small < large


def test_the_set_holds_what_is_held_out_and_no_test_image(datasets):
    shapes = datasets["SHAPES"]
    found = ids_of(compose_validation_set(shapes, HALF))
    assert set(found) == held_out([shapes]) and not {*found} & {*ids_of(compose_eval_set(shapes))}
    assert all(name.startswith("SHAPES/train/") for name in found)


def test_most_bounds_what_is_scored_not_what_is_held_out(datasets):
    few = HALF.model_copy(update={"most": 2})
    scored = ids_of(compose_validation_set(datasets["SHAPES"], few))
    kept_out = held_out([datasets["SHAPES"]], few)
    rest = kept_out - {*scored}
    position = dict(zip(names := sorted(kept_out), places(pa.array(names)), strict=True))
    assert len(scored) == 2 < len(kept_out) and max(position[n] for n in scored) < min(position[n] for n in rest)


def test_it_is_told_apart_from_the_test_set_by_name_and_asks_for_the_same_classes(datasets):
    validation, test = compose_validation_set(datasets["SHAPES"], HALF), compose_eval_set(datasets["SHAPES"])
    assert (validation.name, test.name) == ("SHAPES/validation", "SHAPES")
    assert validation.texts == test.texts and validation.digest != test.digest


def test_a_retrieval_set_is_validated_by_the_captions_of_its_training_images(datasets):
    found = compose_validation_set(datasets["SCENES"], Validation(share=0.9))
    assert all(text.startswith("scene") for text in json.loads(store.read_bytes(found.texts)))


def test_removed_images_are_not_scored_but_held_out_ones_are(datasets):
    shapes = datasets["SHAPES"]
    gone = ids_of(compose_validation_set(shapes, HALF))[0]
    compose = partial(compose_validation_set, shapes, HALF)
    assert gone not in ids_of(compose([exclude({gone: "asked"}, "drop", "removal requests")]))
    assert gone in ids_of(compose([hold_out([shapes], HALF)])) and hold_out([shapes], HALF).cause == HELD_OUT
    assert gone in ids_of(compose([exclude({gone: "twin"}, "mark", "duplicates")]))


def test_a_dataset_to_choose_without_keeps_its_images(datasets):
    without = HALF.model_copy(update={"without": ("SHAPES",)})
    assert held_out(datasets.values(), without) == held_out([datasets["SCENES"], datasets["BROAD"]])


def test_a_dataset_without_validation_images_says_what_to_do(datasets):
    with pytest.raises(ValueError, match=r"none of the \d+ training images of SHAPES .* raise `evaluation.validation"):
        compose_validation_set(datasets["SHAPES"], Validation(share=1e-6))
