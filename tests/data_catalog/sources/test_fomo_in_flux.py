"""The benchmark's on-disk format: everything is either a sample or refused with a reason."""

import gzip
import json
import os
import shutil
import tarfile

import pytest

from data_catalog import store
from data_catalog.shards import SAMPLES, ingest
from data_catalog.sources.fomo_in_flux import FomoInFlux


def refused(dataset):
    return {row["id"]: row["reason"] for row in store.read_table(dataset.quarantine).to_pylist()}


def test_whatever_cannot_be_used_is_refused_with_a_reason(datasets):
    reasons = refused(datasets["SHAPES"])
    assert "truncated" in reasons["SHAPES/train/cut.jpg"]
    assert reasons["SHAPES/train/gone.png"] == "no image for this key"
    assert reasons["SHAPES/extra.png"] == "no metadata entry for this image"
    assert "the entry says 'circle'" in reasons["SHAPES/train/odd.png"]
    assert refused(datasets["SCENES"]) == {"SCENES/../evil.png": "member name leaves the archive"}


def test_caption_kinds_become_lists_and_null_stays(datasets):
    rows = {row["key"]: row for row in store.read_table(datasets["SHAPES"].digest).to_pylist()}
    assert rows["square/0.png"]["synthetic_caption"] == ["s", "t", "u"]
    assert rows["square/0.png"]["synthetic_merged_caption"] == ["a square"]
    assert rows["star/0.png"]["synthetic_merged_caption"] is None
    assert rows["star/2.png"]["synthetic_merged_caption"] == ["same"]


def test_the_sample_table_has_the_agreed_columns(datasets):
    assert store.read_table(datasets["BROAD"].digest).schema.remove_metadata() == SAMPLES


def test_scanning_unchanged_data_opens_no_image_again(tiny_source, monkeypatch):
    first = tiny_source.scan()
    monkeypatch.setattr("data_catalog.files.open_binary", lambda path: pytest.fail(f"opened {path} again"))
    monkeypatch.setattr("data_catalog.metadata_tables.read_table", lambda path: pytest.fail(f"read {path} again"))
    monkeypatch.setattr("data_catalog.inspection_images.examine", lambda data: pytest.fail("decoded an image again"))
    assert tiny_source.scan() == first


def test_the_same_data_elsewhere_has_the_same_digest(tiny_benchmark, tiny_source, tmp_path):
    shutil.copytree(tiny_benchmark, tmp_path / "elsewhere")
    assert FomoInFlux(name="tiny", data=str(tmp_path / "elsewhere")).scan() == tiny_source.scan()


def test_one_changed_image_changes_only_its_dataset(tiny_benchmark, tiny_source):
    before = tiny_source.scan()
    (tiny_benchmark / "SHAPES/circle/0.png").write_bytes((tiny_benchmark / "SHAPES/circle/1.png").read_bytes())
    changed = {raw.dataset for raw in tiny_source.scan()} - {raw.dataset for raw in tiny_source.scan() if raw in before}
    assert changed == {"SHAPES"}


def test_reading_gives_what_was_scanned(tiny_benchmark, tiny_source):
    raw = next(raw for raw in tiny_source.scan() if raw.dataset == "SHAPES")
    (tiny_benchmark / "SHAPES/extra.png").unlink()
    assert "SHAPES/extra.png" in tiny_source.read(raw)[1]["id"].to_pylist()


def test_what_changed_since_a_scan_that_is_forgotten_is_an_error(tiny_benchmark, tiny_source, tmp_path):
    raw = next(raw for raw in tiny_source.scan() if raw.dataset == "SHAPES")
    (tiny_benchmark / "SHAPES/extra.png").unlink()
    shutil.rmtree(tmp_path / "home/inspected")
    with pytest.raises(ValueError, match="changed since it was scanned"):
        tiny_source.read(raw)


def test_a_tar_gives_the_samples_of_its_folder(tiny_benchmark, tiny_source, datasets):
    with tarfile.open(tiny_benchmark / "SHAPES.tar", "w") as tar:
        tar.add(tiny_benchmark / "SHAPES", "SHAPES")
    shutil.rmtree(tiny_benchmark / "SHAPES")
    packed = ingest(tiny_source, tiny_source.scan()[-1])
    columns = ["id", "hash", "concept"]
    assert store.read_table(packed.digest, columns).equals(store.read_table(datasets["SHAPES"].digest, columns))


def test_a_dataset_with_files_missing_does_not_stop_the_others(tiny_benchmark, tiny_source, caplog):
    (tiny_benchmark / "SCENES.tar").unlink()
    assert [raw.dataset for raw in tiny_source.scan()] == ["BROAD", "SHAPES"]
    assert "SCENES is left out, missing: images: SCENES.tar or SCENES/" in caplog.text


def test_a_dataset_that_was_asked_for_by_name_must_be_whole(tiny_benchmark):
    (tiny_benchmark / "SHAPES_classnames.json").unlink()
    with pytest.raises(ValueError, match=r"SHAPES is left out, missing: SHAPES_classnames\.json"):
        FomoInFlux(data=str(tiny_benchmark), datasets=("SHAPES", "BROAD")).scan()


def test_presence_says_what_is_missing_of_each_dataset(tiny_benchmark, tiny_source):
    (tiny_benchmark / "BROAD_train.json").unlink()
    (tiny_benchmark / "SCENES.tar").unlink()
    found = {each.dataset: (each.state, each.missing) for each in tiny_source.presence()}
    assert found["BROAD"] == ("absent", ("BROAD_train.json", "BROAD_test.json"))
    assert found["SCENES"][0] == "incomplete" and found["SHAPES"] == ("complete", ())


def test_malformed_metadata_is_named_with_its_place(tiny_benchmark, tiny_source):
    (tiny_benchmark / "SHAPES_train.json").write_text('{"a": {,}}')
    with pytest.raises(ValueError, match=r"SHAPES_train\.json is not valid JSON.* line 1, column 8"):
        tiny_source.scan()


def test_metadata_may_lie_elsewhere_and_be_compressed(tiny_benchmark, tiny_source, tmp_path, datasets):
    (tmp_path / "metadata").mkdir()
    for path in tiny_benchmark.glob("*.json"):
        compressed = path.stem != "datasets"
        target = tmp_path / "metadata" / (path.name + ".gz" * compressed)
        target.write_bytes(gzip.compress(path.read_bytes()) if compressed else path.read_bytes())
        path.unlink()
    apart = FomoInFlux(name="tiny", data=str(tiny_benchmark), metadata=str(tmp_path / "metadata"))
    assert [ingest(apart, raw).digest for raw in apart.scan()] == [dataset.digest for dataset in datasets.values()]


def test_captions_of_resized_copies_fill_those_the_base_file_lacks(tiny_benchmark, tiny_source):
    train = json.loads((tiny_benchmark / "SHAPES_train.json").read_text())
    resized = {f"SHAPES_train_224/{key}": value | {"synthetic_merged_caption": "small"} for key, value in train.items()}
    (tiny_benchmark / "SHAPES_train_224.json").write_text(json.dumps(dict(reversed(resized.items()))))
    os.renames(tiny_benchmark / "SHAPES/star/0.png", tiny_benchmark / "SHAPES/SHAPES_train_224/star/0.png")
    dataset = ingest(tiny_source, tiny_source.scan()[-1])
    row = next(row for row in store.read_table(dataset.digest).to_pylist() if row["key"] == "star/0.png")
    assert (row["shard"], row["synthetic_merged_caption"]) == ("tiny/SHAPES/SHAPES_train_224/star/0.png", ["small"])
    assert len(refused(dataset)) == 4


def test_an_unknown_dataset_gets_close_names(tiny_benchmark):
    with pytest.raises(ValueError, match=r"SHAPE'.*close matches: .*SHAPES"):
        FomoInFlux(data=str(tiny_benchmark), datasets=("SHAPE",)).scan()


def test_a_folder_without_datasets_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"looked for datasets\.json"):
        FomoInFlux(data=str(tmp_path)).scan()


def test_the_layout_is_read_from_object_storage_too(tiny_benchmark, datasets, stores):
    contents = {path.relative_to(tiny_benchmark).as_posix(): path.read_bytes()
                for path in tiny_benchmark.rglob("*") if path.is_file()}  # fmt: skip
    remote = FomoInFlux(name="tiny", data=stores["memory"](contents))
    assert [ingest(remote, raw).digest for raw in remote.scan()] == [dataset.digest for dataset in datasets.values()]
