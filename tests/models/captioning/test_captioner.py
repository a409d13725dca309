"""Captions from images, by tiny models of every family through the code that loads the real ones."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from data_catalog import store
from data_catalog.captions import Template, caption, caption_some, cut
from data_catalog.places import home
from models.captioning import captioner as module
from models.captioning.captioner import ImageCaptioner, describe, fit_processor, strip_prompt
from models.captioning.pretrained import load
from models.captioning.row_memory import hearing, known_already, stored

FAMILIES = ["blip_2_opt", "blip_2_t5", "blip_1", "llava"]


def spec(folder, **options):
    return ImageCaptioner(model=folder, **{"batch_size": 4, "max_new_tokens": 6} | options)


def rows(reference):
    return store.read_table(reference.digest).to_pylist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prompt", [None, "a photo of"])
def test_every_image_gets_a_text_with_its_origin(family, prompt, tiny_model, pictures):
    captioner = spec(tiny_model(family), prompt=prompt)
    made = rows(caption(pictures(), captioner))
    assert {row["sample"] for row in made} <= {f"PETS/train/{i}" for i in range(7)} and made
    first = made[0]
    assert (first["kind"], first["captioner"], first["prompt"]) == ("captioner", captioner.id(), prompt)
    assert json.loads(first["settings"])["batch_size"] == 4 and first["model"] == captioner.model_identity()
    assert not any("a photo of" in row["text"][:10] or "<" in row["text"] for row in made)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_says_what_single_images_say(family, tiny_model):
    loaded = load(captioner := spec(tiny_model(family), prompt="a photo of"), "AutoModelForImageTextToText",
                  "AutoProcessor")  # fmt: skip
    fit_processor(loaded)
    images = [Image.effect_noise((30, 40), 90).convert("RGB") for _ in range(4)]
    assert describe(loaded, images, captioner, 0) == [describe(loaded, [image], captioner, 0)[0] for image in images]


@pytest.mark.parametrize("family", FAMILIES)
def test_half_precision_runs(family, tiny_model, pictures):
    assert rows(caption(pictures(2), spec(tiny_model(family), prompt="a photo of", dtype="bfloat16")))


def test_equal_images_are_asked_about_once(tiny_model, pictures, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "describe", lambda loaded, images, *_: asked.extend(images) or [["x"]] * len(images))
    made = rows(caption(pictures(), spec(tiny_model("blip_2_opt"))))
    assert len(asked) == 6 and len(made) == 7


def test_pieces_that_others_captioned_make_the_whole(tiny_model, pictures, monkeypatch, tmp_path):
    captioner, dataset = spec(tiny_model("blip_2_opt"), batch_size=2), pictures()
    monkeypatch.setenv("EVERGREEN_STORE", str(home() / "store"))
    whole, heard_of = caption(dataset, captioner), []
    pieces = cut(dataset, captioner, 3)
    assert pieces == [(0, 4), (4, 7)]  # as batches of the whole begin
    for start, stop in pieces:
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / f"worker from {start}"))
        with hearing() as heard:
            caption_some(dataset, captioner, start, stop)
        heard_of.append(stored(heard, stage="test"))
    monkeypatch.setattr(module, "describe", None)  # nobody is asked any more
    for _ in range(2):  # the second time by what is kept
        monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "flow"))
        with known_already(heard_of):
            assert caption(dataset, captioner) == whole
        heard_of = []


def test_what_one_process_does_at_once_is_not_cut(pictures, tiny_model):
    assert cut(pictures(), Template(), 1) == []
    assert cut(pictures(), spec(tiny_model("blip_2_opt")), 7) == []


def interrupted_after(batches, monkeypatch):
    def stop(*arguments):
        nonlocal batches
        batches -= 1
        if batches < 0:
            raise KeyboardInterrupt
        return describe(*arguments)

    monkeypatch.setattr(module, "describe", stop)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0, "captions_per_image": 3}])
def test_an_interrupted_captioning_goes_on_with_what_is_missing(sampling, tiny_model, pictures, monkeypatch, tmp_path):
    captioner = spec(tiny_model("blip_2_opt"), batch_size=2, **sampling)
    images = pictures()
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "other"))
    whole = caption(pictures(), captioner)
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    interrupted_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        caption(images, captioner)
    interrupted_after(5 if sampling else 2, monkeypatch)  # one of six, of three batches is known
    assert caption(images, captioner) == whole


def test_new_samples_cost_only_themselves(tiny_model, pictures, monkeypatch):
    captioner = spec(tiny_model("blip_2_opt"))
    caption(pictures(4), captioner)
    asked = []
    monkeypatch.setattr(module, "describe", lambda loaded, images, *_: asked.extend(images) or [["x"]] * len(images))
    caption(pictures(6), captioner)
    assert len(asked) == 2


def test_several_captions_per_image_are_drawn_from_the_seed(tiny_model, pictures):
    options = {"captions_per_image": 4, "temperature": 1.5}
    one, two = (caption(pictures(), spec(tiny_model("blip_2_opt"), seed=seed, **options)) for seed in (0, 1))
    per_image = [row["position"] for row in rows(one) if row["sample"] == "PETS/train/1"]
    assert per_image == list(range(len(per_image))) and len(per_image) > 1
    assert {row["text"] for row in rows(one)} != {row["text"] for row in rows(two)}


def test_sampling_leaves_the_generator_of_others_alone(tiny_model, pictures):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    caption(pictures(2), spec(tiny_model("blip_2_opt"), temperature=1.0))
    assert torch.rand(1) == expected


def test_a_moved_model_keeps_its_id_and_a_changed_one_does_not(tiny_model, tmp_path):
    folder = tiny_model("blip_2_opt")
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    (moved / "README.md").write_text("notes")
    assert spec(str(moved)).id() == spec(folder).id()
    (moved / "generation_config.json").write_text('{"repetition_penalty": 2.0}')
    assert spec(str(moved)).id() != spec(folder).id()


@pytest.mark.parametrize("change", [{"prompt": "a"}, {"batch_size": 5}, {"dtype": "bfloat16"}, {"max_new_tokens": 7},
                                    {"temperature": 0.5}, {"seed": 1}])  # fmt: skip
def test_what_changes_texts_changes_the_id(change, tiny_model):
    folder = tiny_model("blip_2_opt")
    assert spec(folder, **change).id() != spec(folder).id()
    assert spec(folder, device="cpu", splits=("test",)).id() == spec(folder).id()
    assert spec(folder, splits=("test",)).identity() != spec(folder).identity()


def test_a_name_on_the_hub_needs_its_commit():
    with pytest.raises(ValueError, match=r"'owner/model' is no folder on this machine.*`revision`"):
        spec("owner/model").id()
    assert spec("owner/model", revision="0" * 40).model_identity() == "owner/model@" + "0" * 40
    with pytest.raises(ValidationError, match="revision"):
        spec("owner/model", revision="main")


def test_a_folder_without_a_model_is_named(tmp_path, pictures):
    with pytest.raises(ValueError, match=r"is no model: its config\.json is missing"):
        spec(str(tmp_path)).id()
    (tmp_path / "config.json").write_text('{"model_type": "blip-2"}')
    with pytest.raises(ValueError, match=r"cannot be loaded by AutoModelForImageTextToText"):
        caption(pictures(), spec(str(tmp_path)))


def test_greedy_captions_would_all_be_the_same():
    with pytest.raises(ValidationError, match=r"`captions_per_image` is 2 but with a `temperature` of 0"):
        spec("x", captions_per_image=2)


def test_an_image_that_cannot_be_read_is_named(tiny_model, pictures, tmp_path):
    images = pictures()
    Path(tmp_path / "pets" / "3.png").write_bytes(b"other bytes")
    with pytest.raises(ValueError, match=r"pets/3\.png changed since"):
        caption(images, spec(tiny_model("blip_2_opt")))


def test_models_without_an_answer_are_counted(tiny_model, pictures, monkeypatch):
    monkeypatch.setattr(module, "describe", lambda loaded, images, *_: [[]] * len(images))
    reference = caption(pictures(), spec(tiny_model("blip_2_opt")))
    assert rows(reference) == []
    assert store.origins(reference.digest)[0]["usage"] == {"images_without_answer": 7}


@pytest.mark.parametrize("said, prompt, left", [
    ("<image><image> a photo of  a cat\n", "A photo of", "a cat"),
    ("a cat", "a photo of", "a cat"),
    ("a photo of", "a photo of", ""),
    ("a cat", "", "a cat"),
])  # fmt: skip
def test_an_echoed_prompt_is_stripped(said, prompt, left):
    assert strip_prompt(said, prompt) == left


def test_sampled_texts_do_not_depend_on_what_was_captioned_before(pictures, tiny_model):
    sampling = spec(tiny_model("blip_2_opt"), temperature=1.5, batch_size=4)
    whole = caption(pictures(6), sampling)
    shutil.rmtree(home() / "captions")
    caption(pictures(2), sampling)
    assert caption(pictures(6), sampling) == whole
