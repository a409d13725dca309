"""Parquet files with images inside, as the Hub has them."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_catalog.sources.parquet_images import ParquetImages

FEATURES = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["apple pie", "crêpe"]}}}}
IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
TRAIN = "data/train-00000-of-00001.parquet"


def hub(blobs, features=FEATURES, **columns):
    """A file as `datasets` writes it, two rows per group."""
    images = [None if blob is None else {"bytes": blob, "path": f"{i}.jpg"} for i, blob in enumerate(blobs)]
    table = pa.table({"image": pa.array(images, IMAGE), **columns})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)} if features else None)
    pq.write_table(table, buffer := io.BytesIO(), row_group_size=2)
    return buffer.getvalue()


def food(root, **options):
    return ParquetImages(name="food", data=root, dataset="FOOD", **options)


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_each_row_is_a_sample_with_class_and_split_of_the_hub(scheme, stores, picture, ingested):
    blobs = [picture(i) for i in range(5)]
    contents = {TRAIN: hub(blobs[:3], label=[0, 1, 0]), "data/validation-0.parquet": hub(blobs[3:], label=[1, 1])}
    found = ingested(food(stores[scheme](contents), columns={"concept": "label"}, prompt_template="a photo of {}."))
    assert list(found.blobs.values()) == blobs
    assert [(row["split"], row["concept"], row["target"]) for row in found.samples.values()] == [
        ("train", "apple pie", 0), ("train", "crêpe", 1), ("train", "apple pie", 0),
        ("test", "crêpe", 1), ("test", "crêpe", 1)]  # fmt: skip
    assert found.facts.classnames == ("apple pie", "crêpe") and not found.refused


def test_captions_ids_and_attributes_come_from_other_columns(stores, picture, ingested):
    file = hub(
        [picture(0), picture(1)], None, texts=[["one", "two"], None], alt=["", "drei"], id=["a/b", "ü"], n=[1, 2]
    )
    columns = {"captions": ["texts", "alt"], "id": "id", "attributes": ["n", "image.path"]}
    found = ingested(food(stores["file"]({"x.parquet": file}), columns=columns))
    assert {id: row["default_caption"] for id, row in found.samples.items()} == {
        "FOOD/train/a/b": ["one", "two"], "FOOD/train/ü": ["drei"]}  # fmt: skip
    assert found.samples["FOOD/train/ü"]["attributes"] == '{"image.path": "1.jpg", "n": 2}'


def test_bytes_may_lie_in_a_plain_column(stores, picture, ingested):
    pq.write_table(pa.table({"jpg": [picture(0)], "txt": ["x"]}), buffer := io.BytesIO())
    found = ingested(
        food(stores["file"]({"x.parquet": buffer.getvalue()}), columns={"image": "jpg", "captions": ["txt"]})
    )
    assert list(found.blobs.values()) == [picture(0)]
    assert found.samples["FOOD/train/x/000000"]["shard"] == "food/x.parquet::jpg"


def test_bad_rows_are_refused_alone(stores, picture, ingested):
    file = hub([picture(0), None, b"no image", picture(1), picture(2)], label=[0, 0, 0, 7, None])
    found = ingested(food(stores["file"]({TRAIN: file}), columns={"concept": "label"}, prompt_template="{}"))
    stem = f"FOOD/train/{TRAIN.removesuffix('.parquet')}"
    assert list(found.samples) == [f"{stem}/000000"]
    assert {id.removeprefix(f"{stem}/"): row["code"] for id, row in found.refused.items()} == {
        "000001": "no_image", "000002": "not_an_image",
        "000003": "class_mismatch", "000004": "class_mismatch"}  # fmt: skip


def test_one_id_in_two_rows_is_one_sample(stores, picture, ingested):
    file = hub([picture(0), picture(1)], None, id=["a", "a"], text=["x", "y"])
    found = ingested(food(stores["file"]({TRAIN: file}), columns={"id": "id", "captions": ["text"]}))
    assert found.refused["FOOD/train/a"]["code"] == "duplicate_id" and len(found.samples) == 1


def test_classes_without_names_need_a_list(stores, picture, ingested):
    contents = {TRAIN: hub([picture(0)], None, label=[1]), "names.json": b'["no", "yes"]'}
    root = stores["file"](contents)
    with pytest.raises(ValueError, match="give their names in `classnames`"):
        food(root, columns={"concept": "label"}).scan()
    found = ingested(food(root, columns={"concept": "label"}, classnames="names.json"))
    assert [row["concept"] for row in found.samples.values()] == ["yes"]


@pytest.mark.parametrize("columns", [{"image": "picture"}, {"captions": ["txt"]}, {"image": "label"}])
def test_a_column_that_is_not_there_is_said_with_those_that_are(columns, stores, picture, ingested):
    found = ingested(food(stores["file"]({TRAIN: hub([picture(0)], label=[1])}), columns=columns, concept="x"))
    (refusal,) = found.refused.values()
    assert (
        refusal["code"] == "unreadable" and "'label'" in refusal["reason"] and "correct `columns`" in refusal["reason"]
    )


def test_a_file_cut_short_leaves_the_others_usable(stores, picture, ingested):
    whole = hub([picture(0)], label=[1])
    contents = {"train-0.parquet": whole, "train-1.parquet": whole[:-50]}
    found = ingested(food(stores["file"](contents), columns={"concept": "label"}))
    assert len(found.samples) == 1 and found.refused["FOOD/train/train-1.parquet"]["code"] == "unreadable"


def test_a_file_of_another_name_is_refused(stores):
    with pytest.raises(ValueError, match=r"x\.pq in .* is not called \.parquet"):
        food(stores["file"]({"x.pq": b""}), files=["*"]).scan()
