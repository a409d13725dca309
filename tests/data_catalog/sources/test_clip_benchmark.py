"""The WebDataset layout of CLIP_benchmark: splits by folder, classes by line, captions by line, read by position."""

import gzip

import pytest

from data_catalog import store
from data_catalog.eval_sets import LISTED, compose_chosen_set, compose_eval_set
from data_catalog.shards import ingest
from data_catalog.sources.clip_benchmark import ClipBenchmark
from tests.data_catalog.sources.test_webdataset import tar

TEXTS = {"classnames.txt": b"tabby cat\nbig dog\n",
         "zeroshot_classification_templates.txt": b"a photo of a {c}.\na sketch of a {c}.\n"}  # fmt: skip


def wds(root, **options):
    return ClipBenchmark(name="wds", data=root, dataset="PETS", **options)


@pytest.fixture
def layout(picture):
    """Two test shards and one of training images, as CLIP_benchmark exports them."""

    def shard(first, extension, classes):
        members = {}
        for i, target in enumerate(classes, first):
            members |= {f"s{i:07}.{extension}": picture(i, "PNG"), f"s{i:07}.cls": str(target).encode()}
        return tar(members)

    return {
        "test/nshards.txt": b"2\n", "test/0.tar": shard(0, "png", [1, 0]), "test/1.tar": shard(2, "jpg", [1]),
        "train/nshards.txt": b"1", "train/0.tar": shard(10, "webp", [0, 1]), **TEXTS,
    }  # fmt: skip


@pytest.fixture
def captioned(picture):
    members = {"s0.jpg": picture(0), "s0.txt": b"a cat\n on a mat \n\n", "s1.jpg": picture(1), "s1.txt": b"a dog"}
    return {"test/nshards.txt": b"1", "test/0.tar": tar(members), "dataset_type.txt": b"retrieval\n"}


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_classes_are_lines_and_splits_are_folders(scheme, stores, layout, picture, ingested):
    found = ingested(wds(stores[scheme](layout)))
    assert {id: row["concept"] for id, row in found.samples.items()} == {
        "PETS/test/test/0/s0000000": "big dog", "PETS/test/test/0/s0000001": "tabby cat",
        "PETS/test/test/1/s0000002": "big dog", "PETS/train/train/0/s0000010": "tabby cat",
        "PETS/train/train/0/s0000011": "big dog"}  # fmt: skip
    assert found.blobs["PETS/test/test/1/s0000002"] == picture(2, "PNG") and not found.refused
    assert (found.facts.kind, found.facts.classnames) == ("classification", ("tabby cat", "big dog"))
    assert found.facts.prompt_template == "a photo of a {}."
    assert found.facts.templates == ("a photo of a {}.", "a sketch of a {}.")


def test_captions_are_lines(stores, captioned, ingested):
    found = ingested(wds(stores["file"](captioned)))
    assert {id: row["default_caption"] for id, row in found.samples.items()} == {
        "PETS/test/test/0/s0": ["a cat", "on a mat"], "PETS/test/test/0/s1": ["a dog"]}  # fmt: skip
    assert found.facts.kind == "retrieval" and found.facts.templates == ()


def test_a_type_that_says_nothing_stands_for_classes(stores, layout, ingested):
    assert ingested(wds(stores["file"](layout | {"dataset_type.txt": b"\n"}))).facts.kind == "classification"


def test_a_compressed_tar_is_told_and_nothing_of_it_read(stores, layout, ingested):
    found = ingested(wds(stores["file"](layout | {"test/1.tar": gzip.compress(layout["test/1.tar"])})))
    (row,) = found.refused.values()
    assert row["shard"] == "wds/test/1.tar" and "uncompressed tar" in row["reason"] and len(found.samples) == 4


def test_it_is_scored_with_one_prompt_or_with_all_that_it_lists(stores, layout):
    source = wds(stores["file"](layout))
    (dataset,) = (ingest(source, raw) for raw in source.scan())
    one, all_of_them = compose_eval_set(dataset), compose_chosen_set(dataset, "test", templates=LISTED)
    assert store.read_bytes(one.texts) == b'["a photo of a tabby cat.", "a photo of a big dog."]'
    assert b'["a photo of a big dog.", "a sketch of a big dog."]' in store.read_bytes(all_of_them.texts)
    assert one.digest == all_of_them.digest and one.samples == 3


def test_a_shard_that_is_missing_is_told_and_one_too_many_is_not_read(stores, layout, ingested):
    contents = {name: data for name, data in layout.items() if name != "test/1.tar"} | {"test/7.tar": b"x" * 600}
    found = ingested(wds(stores["file"](contents)))
    assert [row["shard"] for row in found.refused.values()] == ["wds/test/1.tar"] and len(found.samples) == 4


def test_a_template_of_the_configuration_replaces_the_first(stores, layout, ingested):
    assert ingested(wds(stores["file"](layout), prompt_template="{}!")).facts.prompt_template == "{}!"


def test_a_class_beyond_the_list_is_refused(stores, layout, ingested):
    found = ingested(wds(stores["file"](layout | {"classnames.txt": b"tabby cat\n"})))
    assert {row["code"] for row in found.refused.values()} == {"class_mismatch"} and len(found.refused) == 3


@pytest.mark.parametrize("changes, message", [
    ({"test/nshards.txt": b"many"}, r"nshards\.txt says 'many', expected the number of tars"),
    ({"test/nshards.txt": b"10000000"}, r"nshards\.txt says '10000000', expected the number of tars"),
    ({"dataset_type.txt": b"multilabel"}, "says 'multilabel', expected one of classification, retrieval"),
    ({"classnames.txt": None}, r"there is no .*classnames\.txt, which belongs to the layout"),
    ({"classnames.txt": b"cat\n\ndog"}, "has an empty line"),
    ({"zeroshot_classification_templates.txt": b"a photo of {}"}, r"'a photo of \{\}', expected \{c\}"),
    ({"zeroshot_classification_templates.txt": b"a {c} {}"}, r"'a \{c\} \{\}', expected .* and no \{\}"),
    ({"zeroshot_classification_templates.txt": b"\n"}, "no zeroshot_classification_templates.txt with a line"),
    ({"zeroshot_classification_templates.txt": None}, "as `prompt_template`"),
    ({"test/nshards.txt": None, "train/nshards.txt": None}, r"no folder of a split \(train.*correct `data`"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_the_file(stores, layout, changes, message):
    contents = {name: data for name, data in (layout | changes).items() if data is not None}
    with pytest.raises(ValueError, match=message):
        wds(stores["file"](contents)).scan()
