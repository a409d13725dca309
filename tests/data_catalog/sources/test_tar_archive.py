"""Plain tars of images: classes from folders inside, captions from texts beside."""

import io
import tarfile

import pytest

from data_catalog.sources.tar_archive import TarArchive


def tar(members):
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def flowers(root, **options):
    return TarArchive(name="f", data=root, dataset="FLOWERS", **options)


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_each_image_inside_is_a_sample_of_the_class_of_its_folder(scheme, stores, picture, ingested):
    members = {"flowers/rose/1.jpg": picture(0), "flowers/rosé blanc/ä.png": picture(1, "PNG"), "flowers/README": b"x"}
    found = ingested(flowers(stores[scheme]({"all.tar": tar(members)})))
    assert found.blobs == {f"FLOWERS/train/all/{name}": data for name, data in list(members.items())[:2]}
    assert found.facts.classnames == ("rose", "rosé blanc") and not found.refused


def test_splits_are_folders_inside_or_words_in_the_name_of_the_tar(stores, picture, ingested):
    root = stores["file"]({
        "a.tar": tar({"train/rose/1.jpg": picture(0), "test/rose/1.jpg": picture(1)}),
        "flowers-test.tar": tar({"rose/2.jpg": picture(2)}),
    })  # fmt: skip
    found = ingested(flowers(root))
    assert sorted(found.samples) == [
        "FLOWERS/test/a/test/rose/1.jpg", "FLOWERS/test/flowers-test/rose/2.jpg", "FLOWERS/train/a/train/rose/1.jpg"
    ]  # fmt: skip


def test_texts_beside_images_are_captions(stores, picture, ingested):
    members = {"x/1.jpg": picture(0), "x/1.txt": "größe\n".encode(), "x/2.jpg": picture(1), "x/3.jpg": picture(2)}
    members |= {"x/2.txt": b"\xff\xfe"}
    found = ingested(flowers(stores["file"]({"a.tar": tar(members)}), class_folder="none"))
    assert {id: row["default_caption"] for id, row in found.samples.items()} == {"FLOWERS/train/a/x/1.jpg": ["größe"]}
    assert [row["code"] for row in found.refused.values()] == [
        "bad_entry",
        "no_text",
    ] and found.facts.kind == "retrieval"


def test_the_outermost_folder_may_give_the_class(stores, picture, ingested):
    root = stores["file"]({"a.tar": tar({"rose/wild/1.jpg": picture(0)})})
    assert ingested(flowers(root, class_folder="outermost")).facts.classnames == ("rose",)


def test_what_tries_to_leave_the_tar_is_refused(stores, picture, ingested):
    root = stores["file"]({"a.tar": tar({"rose/1.jpg": picture(0), "../rose/2.jpg": picture(1)})})
    found = ingested(flowers(root))
    assert len(found.samples) == 1 and [row["code"] for row in found.refused.values()] == ["unsafe_name"]
