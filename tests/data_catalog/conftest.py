"""A benchmark of three tiny datasets in the on-disk format, with everything that can be wrong about one."""

import io
import json
import os
import tarfile
import time
from functools import partial

import fsspec
import numpy as np
import pytest
from PIL import Image

from data_catalog.captions import Template, caption
from data_catalog.shards import ingest
from data_catalog.sources.fomo_in_flux import FomoInFlux

LISTING = [
    {
        "name": "SHAPES",
        "kind": "classification",
        "role": "adaptation",
        "prompt_template": "A photo of a {}.",
        "classes": 3,
    },
    {"name": "SCENES", "kind": "retrieval", "role": "adaptation", "prompt_template": None, "classes": 0},
    {"name": "BROAD", "kind": "classification", "role": "pretraining", "prompt_template": "A {}.", "classes": 2},
]


def encoded(value, format="PNG", size=8):
    noise = np.random.default_rng(value).integers(0, 255, (size, size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer := io.BytesIO(), format=format)
    return buffer.getvalue()


def entry(classname, target, default=None, synthetic=None, merged=None):
    return {"classname": classname, "target": target, "default_caption": default, "primer_caption": None,
            "synthetic_caption": synthetic, "synthetic_merged_caption": merged}  # fmt: skip


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def shapes(root):
    """A folder with every kind of caption value, a JPEG cut short, an image without entry and the reverse."""
    train = {f"circle/{i}.png": entry("circle", 0, merged=["a circle"]) for i in range(4)}
    train |= {f"square/{i}.png": entry("square", 1, synthetic=["s", "t", "u"], merged="a square") for i in range(4)}
    train |= {"star/0.png": entry("star", 2), "star/1.png": entry("star", 2, merged=["one", "two"])}
    train |= {"star/2.png": entry("star", 2, merged=["same", "same"])}
    train |= {"cut.jpg": entry("circle", 0), "gone.png": entry("circle", 0), "odd.png": entry("circle", 1)}
    test = {f"test/{i}.png": entry(name, i, merged="x") for i, name in enumerate(["circle", "square", "star"])}
    images = {key: encoded(i) for i, key in enumerate([*train, *test, "extra.png"]) if key != "gone.png"}
    images["cut.jpg"] = encoded(1, "JPEG", 64)[:-600]
    for key, data in images.items():
        (root / "SHAPES" / key).parent.mkdir(parents=True, exist_ok=True)
        (root / "SHAPES" / key).write_bytes(data)
    (root / "SHAPES_train.json").write_text(json.dumps(train))
    (root / "SHAPES_test.json").write_text(json.dumps(test))
    (root / "SHAPES_classnames.json").write_text(json.dumps(["circle", "square", "star"]))


def scenes(root):
    """A retrieval set in a tar that also holds a member trying to leave it."""
    train = {f"{i}.png": entry(["hill", "lake"][i % 2], i, default=f"scene {i}") for i in range(4)}
    test = {f"t{i}.png": entry("hill", i, default=[f"view {i}", f"sight {i}"][: 1 + i % 2]) for i in range(3)}
    members = {f"SCENES/{key}": encoded(100 + i) for i, key in enumerate([*train, *test])}
    write_tar(root / "SCENES.tar", members | {"../evil.png": encoded(1)})
    (root / "SCENES_train.json").write_text(json.dumps(train))
    (root / "SCENES_test.json").write_text(json.dumps(test))


def broad(root):
    train = {f"{i}.png": entry(["cat", "dog"][i % 2], i % 2, merged=f"pet {i}") for i in range(6)}
    write_tar(root / "BROAD.tar", {f"BROAD/{key}": encoded(200 + i) for i, key in enumerate(train)})
    (root / "BROAD_train.json").write_text(json.dumps(train))
    (root / "BROAD_classnames.json").write_text(json.dumps(["cat", "dog"]))


def aged(root, seconds=100):
    """Set all clocks back, as files that nobody is writing have them: only such are trusted to stay as they were."""
    for path in [path for path in root.rglob("*") if path.is_file()]:
        os.utime(path, (time.time() - seconds,) * 2)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EVERGREEN_HOME", str(tmp_path / "home"))
    for name in ("EVERGREEN_STORE", "EVERGREEN_CATALOG", "EVERGREEN_SOURCES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def tiny_benchmark(tmp_path):
    """The folder of the three datasets."""
    root = tmp_path / "raw"
    root.mkdir()
    for write in (shapes, scenes, broad):
        write(root)
    (root / "datasets.json").write_text(json.dumps(LISTING))
    aged(root)
    return root


@pytest.fixture
def tiny_source(tiny_benchmark):
    return FomoInFlux(name="tiny", data=str(tiny_benchmark))


@pytest.fixture
def datasets(tiny_source):
    """The three datasets by name, ingested."""
    return {raw.dataset: ingest(tiny_source, raw) for raw in tiny_source.scan()}


@pytest.fixture
def captions(datasets):
    return [caption(dataset, Template()) for dataset in datasets.values()]


@pytest.fixture
def stores(request, tmp_path):
    """Per scheme a function that puts files into a fresh place and returns its root."""

    def put(scheme, contents):
        root = tmp_path.joinpath("files") if scheme == "file" else f"{scheme}://{tmp_path.name.lower()}/below"
        if scheme == "file":
            root.mkdir(exist_ok=True)
        elif scheme == "s3":
            request.getfixturevalue("object_store")
        store = fsspec.filesystem(scheme)
        store.makedirs(f"{root}".rpartition("/")[0], exist_ok=True)
        for name, data in contents.items():
            if scheme == "file":
                root.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
            store.pipe_file(f"{root}/{name}", data)
        return str(root)

    return {scheme: partial(put, scheme) for scheme in ("file", "memory", "s3")}
