"""A manifest: tables of any kind whose columns say what an image is."""

import gzip
import io
import json
from functools import partial

import fsspec
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from data_catalog.sources.manifest import Manifest

ROWS = [
    {"file": "a/ä 1.jpg", "title": "eins, \"zwei\"", "alt": "one\ntwo", "kind": "cat", "fold": "train", "sku": "s/1"},
    {"file": "./b.jpg", "title": "bee", "alt": None, "kind": "dog", "fold": "test", "sku": "s/2"},
    {"file": "c.png", "title": " ", "alt": "sea", "kind": "cat", "fold": "train", "sku": "3"},
]  # fmt: skip
COLUMNS = {"path": "file", "captions": ["title", "alt"], "concept": "kind", "split": "fold", "id": "sku"}


def as_csv(rows, delimiter=","):
    table = pa.Table.from_pylist(rows)
    csv.write_csv(table, buffer := io.BytesIO(), csv.WriteOptions(delimiter=delimiter))
    return buffer.getvalue()


def as_parquet(rows):
    pq.write_table(pa.Table.from_pylist(rows), buffer := io.BytesIO())
    return buffer.getvalue()


def as_lines(rows):
    return "\n".join(map(json.dumps, rows)).encode()


WRITERS = {
    "m.csv": as_csv, "m.tsv": partial(as_csv, delimiter="\t"), "m.jsonl": as_lines, "m.parquet": as_parquet,
    "m.csv.gz": lambda rows: gzip.compress(as_csv(rows)), "m.jsonl.gz": lambda rows: gzip.compress(as_lines(rows)),
}  # fmt: skip


@pytest.fixture
def images(picture):
    return {"img/a/ä 1.jpg": picture(1), "img/b.jpg": picture(2), "img/c.png": picture(3, "PNG")}


@pytest.fixture
def source(stores, images):
    """A manifest source with rows in a table of some name."""

    def make(rows, table="m.jsonl", scheme="file", columns=COLUMNS, **options):
        root = stores[scheme](images | {table: WRITERS[table](rows)})
        return Manifest(name="m", data=root, dataset="SHOP", manifest=table, images="img", columns=columns, **options)

    return make


@pytest.mark.parametrize("table", WRITERS)
def test_every_kind_of_table_says_the_same(table, source, images, ingested):
    found = ingested(source(ROWS, table))
    assert list(found.blobs.values()) == list(images.values())
    assert {id: row["default_caption"] for id, row in found.samples.items()} == {
        "SHOP/train/s/1": ['eins, "zwei"', "one\ntwo"], "SHOP/test/s/2": ["bee"], "SHOP/train/3": ["sea"]}  # fmt: skip
    assert [row["concept"] for row in found.samples.values()] == ["cat", "dog", "cat"]
    assert found.facts.kind == "retrieval" and not found.refused


def test_a_table_in_a_store_names_images_in_the_store(source, images, ingested):
    found = ingested(source(ROWS, "m.parquet", scheme="s3"))
    assert list(found.blobs.values()) == list(images.values())


def test_paths_may_be_whole_urls_or_absolute(source, stores, images, ingested):
    for scheme in ("memory", "file"):
        root = stores[scheme]({})
        found = ingested(source([ROWS[0] | {"file": f"{root}/img/b.jpg"}], scheme=scheme))
        assert list(found.blobs.values()) == [images["img/b.jpg"]]


def test_a_prompt_template_makes_it_a_classification_set(source, ingested):
    found = ingested(source(ROWS, prompt_template="a {}."))
    assert found.facts.kind == "classification" and found.facts.classnames == ("cat", "dog")
    assert [row["target"] for row in found.samples.values()] == [0, 1, 0]


def test_each_bad_row_is_refused_alone(source, ingested):
    bad = [{"file": "gone.jpg"}, {"file": "../../etc/passwd"}, {"file": None}, {"file": "s3://else/x.jpg"}]
    rows = ROWS + [ROWS[0] | row | {"sku": f"bad{i}"} for i, row in enumerate(bad)]
    rows += [ROWS[1], ROWS[0] | {"sku": None}, ROWS[0] | {"title": None, "alt": "", "kind": None, "sku": "silent"}]
    found = ingested(source(rows))
    assert list(found.samples) == ["SHOP/train/s/1", "SHOP/test/s/2", "SHOP/train/3"]
    assert {id: row["code"] for id, row in found.refused.items()} == {
        "SHOP/train/bad0": "no_image", "SHOP/train/bad1": "bad_entry", "SHOP/train/bad2": "bad_entry",
        "SHOP/train/bad3": "bad_entry", "SHOP/train": "bad_entry", "SHOP/train/silent": "no_text",
        "SHOP/test/s/2": "duplicate_id"}  # fmt: skip


def test_broken_lines_are_refused_alone(stores, images, ingested):
    lines = as_lines(ROWS) + b'\nnot json\n[1]\n{"file": {"a": 1}}\n\n\xff\n'
    source = Manifest(
        name="m", data=stores["file"](images | {"m.jsonl": lines}), dataset="S", manifest="m.jsonl", images="img",
        columns=COLUMNS)  # fmt: skip
    found = ingested(source)
    assert len(found.samples) == 3 and sorted(found.refused) == [f"S/m.jsonl row {i}" for i in (4, 5, 6, 8)]


def test_a_line_with_too_many_fields_is_refused_alone(stores, images, ingested):
    text = b"path,caption\na/\xc3\xa4 1.jpg,one\nb.jpg,two,three\nc.png,\n"
    root = stores["file"](images | {"m.csv": text})
    found = ingested(
        Manifest(name="m", data=root, dataset="S", manifest="m.csv", images="img", columns={"captions": ["caption"]})
    )
    assert list(found.samples) == ["S/train/img/a/ä 1.jpg"]
    assert {id: row["code"] for id, row in found.refused.items()} == {
        "S/m.csv row 3": "bad_entry",
        "S/train/img/c.png": "no_text",
    }


def test_captions_may_be_text_lists_or_null_within_one_file(source, ingested):
    titles = ["one", ["two", " ", "two", "zwei"], None]
    rows = [row | {"title": title, "alt": None} for row, title in zip(ROWS, titles, strict=True)]
    found = ingested(source(rows))
    assert [row["default_caption"] for row in found.samples.values()] == [["one"], ["two", "zwei"], None]


def test_attributes_are_kept_as_json(source, ingested):
    rows = [row | {"price": 3.5, "tags": {"b": [1], "a": None}} for row in ROWS]
    found = ingested(source(rows, columns=COLUMNS | {"attributes": ["tags", "price"]}))
    assert found.samples["SHOP/train/3"]["attributes"] == '{"price": 3.5, "tags": {"a": null, "b": [1]}}'


def test_images_may_lie_inside_a_larger_file(stores, picture, ingested):
    blobs = [picture(i) for i in range(3)]
    starts = [0, len(blobs[0]), len(blobs[0]) + len(blobs[1])]
    rows = [{"path": "all.bin", "id": f"{i}", "text": "x", "at": starts[i], "size": len(blobs[i])} for i in range(3)]
    rows += [rows[2] | {"id": "behind", "at": 10**6}, rows[0] | {"id": "odd", "at": None}]
    columns = {"id": "id", "captions": ["text"], "offset": "at", "length": "size"}
    root = stores["file"]({"all.bin": b"".join(blobs), "m.parquet": as_parquet(rows)})
    found = ingested(Manifest(name="m", data=root, dataset="S", manifest="*.parquet", columns=columns))
    assert list(found.blobs.values()) == blobs
    assert [row["code"] for row in found.refused.values()] == ["cut_off", "bad_entry"]


def test_classes_by_number_need_their_names(source, stores, ingested):
    rows = [row | {"number": i} for i, row in enumerate(ROWS)]
    columns = {"path": "file", "target": "number", "id": "sku"}
    with pytest.raises(ValueError, match="classes by number; give their names in `classnames`"):
        source(rows, columns=columns).scan()
    stores["file"]({"names.json": b'["nought", "one"]'})
    found = ingested(source(rows, columns=columns, classnames="names.json", prompt_template="{}"))
    assert [row["concept"] for row in found.samples.values()] == ["nought", "one"]
    assert found.refused["SHOP/train/3"]["reason"] == "class 2 is not among the 2 in the class list"


@pytest.mark.parametrize("table", ["m.csv", "m.jsonl", "m.parquet"])
def test_a_column_that_is_not_there_is_named_with_those_that_are(table, source):
    with pytest.raises(ValueError, match=r"no column \['prize'\], found \[.*'title'.*correct `columns`"):
        source(ROWS, table, columns=COLUMNS | {"attributes": ["prize"]}).scan()


@pytest.mark.parametrize("table", ["m.csv.gz", "m.jsonl.gz", "m.parquet"])
def test_a_damaged_table_is_an_error_that_names_it(table, stores, images):
    root = stores["file"](images | {table: WRITERS[table](ROWS)[:-20]})
    with pytest.raises(ValueError, match=rf"cannot read .*{table}"):
        Manifest(name="m", data=root, dataset="S", manifest=table, columns=COLUMNS).scan()


def test_no_table_is_an_error_that_names_what_was_looked_for(stores, images):
    with pytest.raises(ValueError, match=r"no table x\.csv lies in .*correct `data`"):
        Manifest(name="m", data=stores["file"](images), dataset="S", manifest="x.csv").scan()


def test_a_web_server_is_asked_for_the_files_that_the_table_names(stores, images, object_store, ingested):
    bucket = stores["s3"](images | {"m.csv": as_csv(ROWS)}).removeprefix("s3://")
    store = fsspec.filesystem("s3")
    for path in store.find(bucket):
        store.chmod(path, "public-read")
    web = "http://{}:{}/{}".format(*object_store.get_host_and_port(), bucket)
    found = ingested(Manifest(name="w", data=web, dataset="S", manifest="m.csv", images="img", columns=COLUMNS))
    assert list(found.blobs.values()) == list(images.values())


def test_names_and_numbers_of_classes_go_together_as_the_table_says(stores, picture, ingested):
    rows = b"path,cls,num\na.jpg,cat,1\nb.jpg,dog,0\nc.jpg,cat,1\n"
    root = stores["file"]({f"{name}.jpg": picture(i) for i, name in enumerate("abc")} | {"m.csv": rows})
    columns = {"concept": "cls", "target": "num"}
    found = ingested(
        Manifest(name="m", dataset="M", data=root, manifest="m.csv", columns=columns, prompt_template="a {}")
    )
    assert found[2].classnames == ("dog", "cat")
    assert {row["key"]: row["target"] for row in found[0].values()} == {"a.jpg": 1, "b.jpg": 0, "c.jpg": 1}
