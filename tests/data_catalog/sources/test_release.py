"""The released tree, made small: real metadata of a few entries per dataset, tiny images in tars and folders."""

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from data_catalog import registry, store
from data_catalog.shards import facts, ingest
from data_catalog.sources.fomo_in_flux import FomoInFlux
from tests.data_catalog.conftest import aged, encoded, write_tar

PUBLISHED = Path(__file__).parents[4] / "shared/fomo_in_flux"
CAPTIONS = PUBLISHED / "captions"
ENTRIES = 24  # of each file

pytestmark = pytest.mark.skipif(not CAPTIONS.is_dir(), reason="the published captions are not here")


def picked(entry, split, suffix):
    """Some entries of a published file, the same ones of base and resized copies; none if it was not published."""
    path = CAPTIONS / f"{entry.info_prefix}_{entry.split_tokens[split]}{suffix}.json.gz"
    if not path.is_file():
        return {}
    entries = json.loads(gzip.decompress(path.read_bytes()))
    return {key: entries[key] for key in sorted(entries)[:ENTRIES]}


def written(root, entry, packed):
    """The files of one dataset; True if there are any."""
    images = {}
    for split, token in entry.split_tokens.items():
        for suffix in ("", "_224"):
            if entries := picked(entry, split, suffix):
                data = json.dumps(entries).encode()
                name = f"metadata/{entry.info_prefix}_{token}{suffix}.json"
                (root / f"{name}.gz").write_bytes(gzip.compress(data)) if packed else (root / name).write_bytes(data)
                images |= {f"{entry.info_prefix}/{key}": len(images) + i for i, key in enumerate(entries)}
    blobs = {
        name: encoded(value, "JPEG" if name.lower().endswith(("jpg", "jpeg")) else "PNG")
        for name, value in images.items()
    }
    if packed and blobs:
        write_tar(root / f"{entry.info_prefix}.tar", blobs)
    for name, data in {} if packed else blobs.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return bool(images)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    (root / "metadata").mkdir()
    (root / "metadata/class_lists.json.gz").write_bytes((PUBLISHED / "class_lists.json.gz").read_bytes())
    for i, entry in enumerate(registry.benchmark()):
        written(root, entry, packed=i % 2 == 0)
    aged(root)
    return root


@pytest.fixture(autouse=True)
def home(release, monkeypatch):
    """One home for all of them: what one test ingested is the next one's memory."""
    monkeypatch.setenv("EVERGREEN_HOME", str(release.parent / "home-of-release"))
    monkeypatch.delenv("EVERGREEN_SOURCES", raising=False)


@pytest.fixture
def source(release):
    return FomoInFlux(data=str(release), metadata=str(release / "metadata"))


@pytest.fixture
def ingested(source):
    return {raw.dataset: ingest(source, raw) for raw in source.scan()}


def test_every_dataset_with_metadata_is_ingested_whole(ingested):
    stems = {path.name.removesuffix(".json.gz") for path in CAPTIONS.glob("*.json.gz")}
    expected = {d.info_prefix: {split for split, token in d.split_tokens.items() if f"{d.info_prefix}_{token}" in stems}
                for d in registry.benchmark()}  # fmt: skip
    assert {name: set(dataset.samples) for name, dataset in ingested.items()} == {
        name: splits for name, splits in expected.items() if splits
    }
    assert {count for dataset in ingested.values() for count in dataset.samples.values()} == {ENTRIES}
    assert {dataset.quarantine for dataset in ingested.values()} == {None}


def test_what_is_missing_is_told_per_dataset(source):
    found = {each.dataset: each for each in source.presence()}
    assert found["STL10"].state == "complete"
    assert (found["CIFAR10"].state, found["CIFAR10"].missing) == ("partial", ("CIFAR10_train.json",))
    assert found["IMAGENET"].state == "absent" and len(found) == 67


def test_an_unpacked_tar_has_the_same_samples(release, source, ingested, tmp_path):
    name = next(path.stem for path in sorted(release.glob("*.tar")))
    with tarfile.open(release / f"{name}.tar") as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # an argument from Python 3.11.4 on
        tar.extractall(tmp_path / "unpacked")
    unpacked = source.model_copy(update={"data": str(tmp_path / "unpacked"), "datasets": (name,)})
    folder = ingest(unpacked, unpacked.scan()[0])
    columns = ["id", "hash", "concept", "target", "default_caption", "synthetic_merged_caption"]
    assert store.read_table(folder.digest, columns).equals(store.read_table(ingested[name].digest, columns))


def test_primers_are_the_prompts_and_concepts_those_of_the_class_list(ingested):
    for dataset in ingested.values():
        known = facts(dataset)
        rows = store.read_table(dataset.digest, ["concept", "target", "primer_caption"]).to_pylist()
        assert all(row["primer_caption"] in (None, [known.prompt(row["concept"])]) for row in rows if row["concept"])
        if dataset.kind == "classification":
            assert all(known.classnames[row["target"]] == row["concept"] for row in rows)


def test_captions_that_only_the_resized_file_has_are_used(ingested):
    rows = store.read_table(ingested["AI2DIAGRAMS"].digest, ["synthetic_caption", "synthetic_merged_caption"])
    assert rows["synthetic_merged_caption"].null_count == 0
    assert {len(texts) for texts in rows["synthetic_caption"].to_pylist()} == {3}


def test_the_resized_copies_are_read_on_request(source, ingested):
    small = source.model_copy(update={"resized": True, "datasets": ("ai2diagrams", "cifar10")})
    by_name = {raw.dataset: store.read_table(ingest(small, raw).digest) for raw in small.scan()}
    keys, shards = (by_name["AI2DIAGRAMS"][name].to_pylist() for name in ("key", "shard"))
    assert not any("_224/" in key for key in keys)
    places = by_name["AI2DIAGRAMS"]["offset"].to_pylist()
    original = store.read_table(
        ingest(source, next(raw for raw in source.scan() if raw.dataset == "AI2DIAGRAMS")).digest
    )
    assert all("_224/" in shard for shard in shards) or places != original["offset"].to_pylist()


def test_retrieval_sets_without_class_list_keep_all_captions(ingested):
    dataset = ingested["MSCOCO"]
    assert (dataset.kind, facts(dataset).classnames, facts(dataset).prompt_template) == ("retrieval", (), None)
    assert {len(t) for t in store.read_table(dataset.digest)["default_caption"].to_pylist()} == {5}


def test_years_and_rules_come_from_the_registry(ingested):
    assert facts(ingested["CUB200"]).year == 2011
    entry = registry.by_name(registry.benchmark())["objectnet"]
    assert entry.class_name_transform == "underscores_to_spaces"


def test_imagenet_v2_takes_the_class_names_of_imagenet_sorted(tmp_path):
    names = ["tench", "Affenpinscher", "abacus", "Zebra"]
    key = {"a.png": {"classname": "Affenpinscher", "target": 1, "default_caption": None, "primer_caption": None,
                     "synthetic_caption": None, "synthetic_merged_caption": "a dog"}}  # fmt: skip
    (tmp_path / "IMAGENET_classnames.json").write_text(json.dumps(names))
    (tmp_path / "IMAGENET_V2_test.json").write_text(json.dumps(key))
    write_tar(tmp_path / "IMAGENET_V2.tar", {"IMAGENET_V2/a.png": encoded(1)})
    source = FomoInFlux(data=str(tmp_path))
    dataset = ingest(source, source.scan()[0])
    assert facts(dataset).classnames == ("abacus", "Affenpinscher", "tench", "Zebra")


def test_a_class_list_of_another_length_than_known_is_said(tmp_path, release, caplog):
    source = FomoInFlux(data=str(release), metadata=str(release / "metadata"), datasets=("stl10",))
    own = release / "metadata/STL10_classnames.json"
    lists = json.loads(gzip.decompress((release / "metadata/class_lists.json.gz").read_bytes()))
    own.write_text(json.dumps([*lists["stl10"]["classnames"], "airship"]))
    try:
        source.scan()
    finally:
        own.unlink()
    assert "the class list of STL10 has 11 names, the registry says 10" in caplog.text
