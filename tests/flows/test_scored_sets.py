"""What is scored: subsets, other images and prompts, own data; when, and what enters which mean."""

import json
import shutil

import pyarrow.compute as pc
import pytest

from data_catalog import store
from data_catalog.stream import samples_of
from flows.experiment import parse
from tests.flows.conftest import prepared_alone, raw_experiment

pytestmark = pytest.mark.usefixtures("prefect_backend")
OWN = {"kind": "synthetic", "name": "mine", "seed": 5, "pretraining_images": 60, "adaptation_images": 130,
       "test_images": 12}  # fmt: skip


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Prepares the tiny experiment with changes to its `evaluation` and `stream`."""
    monkeypatch.setattr("data_catalog.subsets.AT_LEAST", 4)
    monkeypatch.setattr("data_catalog.subsets.PER_CLASS", 0)

    def run(stream=None, **evaluation):
        raw = raw_experiment()
        changes = {"evaluation": raw["evaluation"] | evaluation, "stream": raw["stream"] | (stream or {})}
        return prepared_alone(parse(raw_experiment(**changes), "test"))

    return run


@pytest.fixture
def birds(tmp_path):
    """A folder of own images without splits, as a source."""
    from PIL import Image

    for number, name in enumerate(["owl", "wren"]):
        (tmp_path / "birds" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (16, 16), (80 * number, 50 * i, 90)).save(tmp_path / "birds" / name / f"{i}.png")
    return {"kind": "image_folder", "name": "birds", "dataset": "BIRDS", "data": str(tmp_path / "birds"),
            "prompt_template": "a photo of a {}."}  # fmt: skip


def ids_of(sets):
    return {name for some in sets for name in store.read_table(some.digest)["id"].to_pylist()}


def texts_of(sets, name):
    return json.loads(store.read_bytes(next(some.texts for some in sets if some.name == name)))


def test_steps_are_scored_on_subsets_and_the_ends_on_whole_sets(prepared):
    whole, part = prepared(), prepared(subset=0.5)
    assert part.scored.whole == whole.eval_sets and whole.scored.whole == ()
    assert ids_of(part.eval_sets) < ids_of(whole.eval_sets)
    assert [some.name for some in part.eval_sets] == [some.name for some in whole.eval_sets]
    assert {some.name: some.samples for some in part.eval_sets if some.kind == "classification"} == {
        some.name: max(4, some.samples // 2) for some in whole.eval_sets if some.kind == "classification"}  # fmt: skip
    assert part.start == whole.start and part.plan == whole.plan


def test_validation_images_can_be_what_is_scored(prepared):
    found = prepared(images="validation", validation={"share": 0.3})
    assert found.eval_sets == found.validation_sets
    assert found.scored.means.retention[0] == "SHAPES/validation" and "SHAPES" in found.retention


def test_clean_images_alone_can_be_what_is_scored(prepared):
    duplicates = {"search": {"kinds": ["exact", "perceptual"], "perceptual_distance": 12}}
    marked = prepared(stream={"duplicates": duplicates})
    clean = prepared(stream={"duplicates": duplicates}, images="clean")
    tables = [store.read_table(some.digest) for some in marked.eval_sets]
    expected = {id for table in tables for id in table.filter(pc.field("clean"))["id"].to_pylist()}
    assert ids_of(clean.eval_sets) == expected != ids_of(marked.eval_sets)
    assert clean.scored.means.adaptation[0].endswith("/clean")


def test_own_data_are_scored_whole_and_trained_on_by_nothing(prepared, birds):
    plain, found = prepared(), prepared(own=[birds], groups={"mine": ["BIRDS", "SHAPES"]}, weights={"BIRDS": 3})
    assert found.plan == plain.plan and found.start == plain.start
    assert not any(id.startswith("BIRDS/") for id in samples_of(found.plan)["sample"].to_pylist())
    assert {some.name: some.samples for some in found.eval_sets}["BIRDS"] == 6
    assert found.scored.means.adaptation == plain.scored.means.adaptation
    assert (found.scored.means.groups, found.scored.means.weights) == ({"mine": ("BIRDS", "SHAPES")}, {"BIRDS": 3})


def test_own_data_are_scored_on_test_images_where_others_are_on_validation_images(prepared, birds):
    found = prepared(own=[birds], images="validation", validation={"share": 0.3, "without": ["BIRDS"]})
    assert {some.name: some.samples for some in found.eval_sets}["BIRDS"] == 6
    assert all(some.name == "BIRDS" or some.name.endswith("/validation") for some in found.eval_sets)


@pytest.fixture
def untested(birds, tmp_path):
    """The folder of images as a source whose images all are for training."""
    shutil.copytree(birds["data"], tmp_path / "parted" / "train")
    return birds | {"data": str(tmp_path / "parted")}


def test_a_dataset_without_test_images_cannot_be_scored_on_them(untested):
    raw = raw_experiment()
    evaluation = raw["evaluation"] | {"retention": [*raw["evaluation"]["retention"], "BIRDS"]}
    with pytest.raises(ValueError, match="no test images to score in BIRDS: give its source some"):
        prepared_alone(parse(raw | {"sources": [*raw["sources"], untested], "evaluation": evaluation}, "test"))


def test_a_dataset_without_test_images_is_probed_on_its_validation_images(untested):
    raw = raw_experiment()
    evaluation = {"retention": ["BIRDS"], "images": "validation", "validation": {"share": 0.4}, "probe": {}}
    sources = [*raw["sources"], untested]
    found = prepared_alone(parse(raw | {"sources": sources, "evaluation": evaluation}, "test"))
    assert "BIRDS/validation" in {some.name for some in found.scored.probing} & {some.name for some in found.eval_sets}


def test_prompts_may_be_others_for_all_classification_sets(prepared):
    plain, others = prepared(), prepared(prompts={"templates": ["one {}", "two {}"]})
    own, given = (texts_of(found.eval_sets, "SHAPES") for found in (plain, others))
    assert len(given) == len(own) and all(pair[0].startswith("one ") and pair[1].startswith("two ") for pair in given)
    kept = [some for some in plain.eval_sets if some.kind == "retrieval"]
    assert [some for some in others.eval_sets if some.kind == "retrieval"] == kept


def test_probes_are_fitted_to_training_images_that_are_not_kept_aside(prepared):
    found = prepared(probe={}, validation={"share": 0.3})
    names = {some.name for some in found.scored.probing}
    assert names == {some.name for some in found.eval_sets if some.kind == "classification"}
    assert not ids_of(found.scored.probing) & (ids_of(found.eval_sets) | ids_of(found.validation_sets))


@pytest.mark.parametrize("evaluation, message", [
    ({"groups": {"x": ["NOWHERE"]}}, r"`evaluation\.groups\.x` names NOWHERE, which is not scored; scored are ANIMALS"),
    ({"weights": {"NOWHERE": 2}}, r"`evaluation\.weights` names NOWHERE, which is not scored"),
    ({"weights": {"SHAPES": 0}, "groups": {"x": ["SHAPES"]}}, "all of SHAPES have weight 0"),
    ({"images": "validation", "validation": {"without": ["SHAPES"]}}, "validation, but SHAPES has no such image"),
    ({"validation": {"without": ["NOWHERE"]}}, r"`evaluation\.validation\.without` names NOWHERE"),
    ({"retention": ["SHAPE"]}, "`evaluation` names SHAPE, which no source holds"),
])  # fmt: skip
def test_what_cannot_be_scored_is_said_before_anything_is_trained(prepared, monkeypatch, evaluation, message):
    monkeypatch.setattr("flows.preparing.begin", lambda experiment, material: pytest.fail("training was begun"))
    with pytest.raises(ValueError, match=message):
        prepared(**evaluation)


@pytest.mark.parametrize("evaluation, message", [
    ({"images": "validation"}, "set `validation`"),
    ({"images": "clean"}, "set `stream.duplicates`"),
    ({"images": "validation", "validation": {}, "subset": 0.1}, "limit these by `validation.most`"),
    ({"groups": {"x": ["SHAPES", "SHAPES"]}}, "each once"),
    ({"retention": ["SHAPES", "SHAPES"]}, "each once"),
    ({"adaptation": []}, "`adaptation` is of"),
    ({"own": [OWN | {"name": "demo"}]}, "`sources` names demo more than once"),
])  # fmt: skip
def test_what_does_not_fit_together_is_refused_when_it_is_read(evaluation, message):
    raw = raw_experiment()
    with pytest.raises(ValueError, match=message):
        parse(raw | {"evaluation": raw["evaluation"] | evaluation}, "test")


def test_first_and_last_steps_and_every_kth_are_scored():
    raw = raw_experiment()
    spec = parse(raw | {"evaluation": raw["evaluation"] | {"every": 3}}, "test").evaluation
    assert [step for step in range(8) if spec.is_scored(step, 8)] == [0, 2, 5, 7]
    assert [step for step in range(8) if parse(raw, "test").evaluation.is_scored(step, 8)] == list(range(8))
