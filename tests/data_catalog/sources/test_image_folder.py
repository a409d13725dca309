"""An image folder: classes and splits from the names of folders."""

import json

import pytest

from data_catalog.sources.image_folder import ImageFolder


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_each_image_is_a_sample_of_the_class_of_its_folder(scheme, stores, picture, ingested):
    names = ["cat/1.jpg", "cat/deep/1.jpg", "großer_hund/a b#?.jpg", "notes.txt"]
    contents = {name: picture(i) for i, name in enumerate(names)}
    found = ingested(ImageFolder(name="pets", data=stores[scheme](contents), dataset="PETS"))
    assert found.blobs == {f"PETS/train/{name}": contents[name] for name in names[:3]}
    assert {row["concept"]: row["target"] for row in found.samples.values()} == {"cat": 0, "großer_hund": 1}
    assert found.facts.kind == "classification" and not found.refused


def test_folders_called_like_splits_are_splits(stores, picture, ingested):
    names = ["train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg"]
    found = ingested(
        ImageFolder(name="p", data=stores["file"]({n: picture(n[-5:].encode()[0]) for n in names}), dataset="P")
    )
    assert [(row["split"], row["concept"]) for row in found.samples.values()] == [
        ("train", "cat"), ("train", "dog"), ("test", "cat")]  # fmt: skip


def test_validation_is_left_out_where_there_is_a_test_split(stores, picture, ingested):
    contents = {f"{split}/cat/{i}.jpg": picture(i) for i, split in enumerate(("train", "val", "test"))}
    found = ingested(ImageFolder(name="p", data=stores["file"](contents), dataset="P"))
    assert list(found.samples) == ["P/test/test/cat/2.jpg", "P/train/train/cat/0.jpg"] and not found.refused


def test_a_class_called_train_is_no_split_among_other_classes(stores, picture, ingested):
    contents = {f"{name}/{i}.jpg": picture(i) for i, name in enumerate(("train", "bus"))}
    found = ingested(ImageFolder(name="p", data=stores["file"](contents), dataset="P"))
    assert found.facts.classnames == ("bus", "train")


def test_a_split_that_is_not_mapped_is_refused_with_those_that_are(stores, picture, ingested):
    contents = {f"{split}/cat/0.jpg": picture(0) for split in ("fold1", "fold2")}
    source = ImageFolder(
        name="p", data=stores["file"](contents), dataset="P", layout="split/class", splits={"fold1": "train"}
    )
    found = ingested(source)
    assert found.refused["P/fold2/fold2/cat/0.jpg"]["reason"].startswith("split fold2 is none of ['fold1']")


def test_the_test_fraction_is_drawn_per_sample_for_ever(stores, picture):
    small = {f"cat/{i}.jpg": b"x" for i in range(300)}
    more = small | {f"ant/{i}.jpg": b"x" for i in range(300)}

    def splits(contents, seed=0):
        options = {"test_fraction": 0.2, "seed": seed}
        source = ImageFolder(name="p", data=stores["memory"](contents), dataset="P", **options)
        rows = source.candidates(source.listings()[0]).rows
        return dict(zip(rows["key"].to_pylist(), rows["split"].to_pylist(), strict=True))

    before, after = splits(small), splits(more)
    assert before.items() <= after.items() and splits(more, seed=1) != after
    assert 0.14 < list(after.values()).count("test") / len(after) < 0.26


def test_class_names_come_from_a_mapping(stores, picture, ingested):
    contents = {f"{name}/{i}.jpg": picture(i) for i, name in enumerate(("n01", "n02", "n03"))}
    contents["names.json"] = json.dumps({"n02": "tench", "n01": "goldfish"}).encode()
    found = ingested(ImageFolder(name="p", data=stores["file"](contents), dataset="P", classnames="names.json"))
    assert found.facts.classnames == ("tench", "goldfish")
    assert [row["target"] for row in found.samples.values()] == [1, 0]
    assert found.refused["P/train/n03/2.jpg"]["code"] == "class_mismatch"


def test_what_cannot_be_used_is_refused_one_by_one(stores, picture, ingested, tmp_path):
    contents = {"cat/0.jpg": picture(0), "cat/broken.jpg": b"no image", "loose.jpg": picture(1)}
    root = stores["file"](contents)
    (tmp_path / "files" / "cat" / "link.jpg").symlink_to("/etc/hostname")
    found = ingested(ImageFolder(name="p", data=root, dataset="P"))
    assert {id: row["code"] for id, row in found.refused.items()} == {
        "P/train/cat/broken.jpg": "not_an_image", "P/cat/link.jpg": "unusable_file",
        "P/loose.jpg": "bad_entry"}  # fmt: skip


def test_images_are_not_read_where_only_an_index_is_asked_for(stores, ingested):
    found = ingested(ImageFolder(name="p", data=stores["s3"]({"cat/0.jpg": b"never"}), dataset="P", check="index"))
    assert found.samples["P/train/cat/0.jpg"]["hash"] is None and found.blobs == {"P/train/cat/0.jpg": b"never"}


def test_a_folder_without_images_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=rf"no image lies below {tmp_path}.*correct `data`"):
        ImageFolder(name="p", data=str(tmp_path), dataset="P").scan()


def test_a_template_needs_a_place_for_the_class():
    with pytest.raises(ValueError, match="prompt_template"):
        ImageFolder(name="p", data="x", dataset="P", prompt_template="a photo")


def test_class_prompts_may_turn_underscores_into_spaces(stores, picture, ingested):
    options = {"class_name_transform": "underscores_to_spaces", "prompt_template": "A {}."}
    found = ingested(ImageFolder(name="p", data=stores["file"]({"a_b/0.jpg": picture(0)}), dataset="P", **options))
    assert found.facts.prompt("a_b") == "A a b."


def test_keys_in_a_url_are_refused():
    with pytest.raises(ValueError, match="keys come from the environment"):
        ImageFolder(name="x", dataset="X", data="s3://key:secret@bucket/folder")
