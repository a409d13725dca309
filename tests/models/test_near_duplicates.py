"""Tiles of the product find what the whole matrix shows, in any order and on any device."""

import io
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageEnhance

from data_catalog import places, store
from data_catalog.components import Components
from data_catalog.duplicates import DuplicateSearch, find_duplicates
from data_catalog.shards import SAMPLES, DatasetRef
from models.embeddings import EmbeddingsRef, embed_dataset
from models.near_duplicates import find_near_duplicates

SEARCH = DuplicateSearch(kinds=("embedding",), similarity=0.9)


def near_vectors(count=300, dim=16, seed=0):
    """Unit vectors, every third one close to one before it, at all distances around the threshold."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, dim))
    copies = np.arange(0, count, 3)
    vectors[copies] = vectors[copies // 2] + rng.normal(size=(len(copies), dim)) * rng.uniform(0, 0.5, (len(copies), 1))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def stored(vectors, name="A", phash=None, checkpoint="a"):
    """Vectors as the embeddings of a dataset whose even samples are for training."""
    ids = [f"{name}/{'train' if i % 2 == 0 else 'test'}/{i:04d}" for i in range(len(vectors))]
    rows = [{"id": id, "dataset": name, "split": id.split("/")[1], "phash": phash and phash[i], "hash": b"x" * 32}
            for i, id in enumerate(ids)]  # fmt: skip
    table = store.write_table(pa.Table.from_pylist(rows, schema=SAMPLES))
    with store.writing() as artifact:
        np.save(artifact.path.open("wb"), vectors)
    return EmbeddingsRef(
        digest=artifact.digest, dataset=table, checkpoint=checkpoint, splits=("train", "test"), dim=vectors.shape[1],
        rows=len(vectors),
    )  # fmt: skip


def by_whole_matrix(vectors, similarity):
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    components = Components(len(exact))
    components.join(*np.nonzero(exact @ exact.T >= similarity))
    sizes = np.bincount(components.labels)
    return {tuple(np.flatnonzero(components.labels == label)) for label in np.flatnonzero(sizes > 1)}


def found(groups):
    members = {}
    for row in store.read_table(groups.digest).to_pylist():
        members.setdefault(row["group"], []).append(int(row["sample"].split("/")[2]))
    return {tuple(sorted(group)) for group in members.values()}


@pytest.mark.parametrize("tile", [1, 37, 300, 1000])
def test_tiles_find_what_the_whole_matrix_shows(tile):
    vectors = near_vectors()
    expected = by_whole_matrix(vectors, 0.9)
    assert found(find_near_duplicates([stored(vectors)], SEARCH, tile=tile)) == expected and len(expected) > 10


def test_distance_is_one_less_the_cosine_to_the_first_member():
    vectors = np.array([[1, 0], [0.96, 0.28], [1, 0]], np.float16)
    table = store.read_table(find_near_duplicates([stored(vectors)], SEARCH).digest).to_pylist()
    assert [row["sample"] for row in table] == ["A/test/0001", "A/train/0000", "A/train/0002"]
    assert [row["distance"] for row in table] == pytest.approx([0, 0.04, 0.04], abs=1e-3)


def test_identical_vectors_are_one_group_with_distance_zero():
    groups = find_near_duplicates([stored(np.tile(near_vectors(1), (500, 1)))], SEARCH, tile=100)
    assert groups.groups == {"embedding": 1} and groups.samples == {"embedding": 500}
    assert set(store.read_table(groups.digest)["distance"].to_pylist()) == {0.0}


def test_the_order_of_the_datasets_does_not_matter():
    one, two = stored(near_vectors(60), "A"), stored(near_vectors(60)[::-1].copy(), "B")
    assert find_near_duplicates([one, two], SEARCH) == find_near_duplicates([two, one], SEARCH, tile=7)


def test_candidates_restrict_the_comparison_to_their_groups():
    vectors = np.array([[1, 0], [1, 0.1], [1, 0], [0, 1]], np.float16)
    ref = stored(vectors, phash=[0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF << 20, 0xFFFFFFFD])
    dataset = DatasetRef(digest=ref.dataset, name="A", samples={"train": 2, "test": 2}, kind="classification")
    close = find_duplicates([dataset], DuplicateSearch(kinds=("perceptual",)))
    groups = find_near_duplicates([ref], SEARCH, candidates=close)
    assert found(groups) == {(0, 1)} and groups.not_compared == {"embedding": 1}


def test_embeddings_of_different_checkpoints_are_refused():
    with pytest.raises(ValueError, match="embeddings of 2 checkpoints, expected one"):
        find_near_duplicates([stored(near_vectors(), "A"), stored(near_vectors(), "B", checkpoint="b")], SEARCH)


def test_only_the_named_datasets_are_searched():
    refs = [stored(near_vectors(20), "A"), stored(near_vectors(20), "B")]
    groups = find_near_duplicates(refs, SEARCH.model_copy(update={"datasets": ("B",)}))
    assert groups.datasets == {"B": refs[1].dataset}
    with pytest.raises(ValueError, match="`datasets` names C"):
        find_near_duplicates(refs, SEARCH.model_copy(update={"datasets": ("C",)}))


def test_a_brighter_and_trimmed_copy_is_found_by_a_checkpoint(tiny, tmp_path):
    places.register_source("own", tmp_path)
    scene = Image.fromarray(np.random.default_rng(0).integers(0, 200, (6, 8, 3), np.uint8)).resize((160, 120), 3)
    pictures = {"train/scene": scene, "test/copy": ImageEnhance.Brightness(scene.crop((3, 3, 157, 117))).enhance(1.2)}
    pictures |= {"train/other": scene.transpose(Image.Transpose.ROTATE_180)}
    rows = []
    for name, picture in pictures.items():
        split, key = name.split("/")
        (buffer := io.BytesIO()), picture.save(buffer, "PNG")
        data = buffer.getvalue()
        (tmp_path / f"{key}.png").write_bytes(data)
        rows.append({"id": f"A/{name}", "dataset": "A", "split": split, "shard": f"own/{key}.png",
                     "offset": 0, "length": len(data), "hash": sha256(data).digest()})  # fmt: skip
    digest = store.write_table(pa.Table.from_pylist(rows, schema=SAMPLES))
    dataset = DatasetRef(digest=digest, name="A", samples={"train": 2, "test": 1}, kind="classification")
    groups = find_near_duplicates([embed_dataset(dataset, tiny)], SEARCH.model_copy(update={"similarity": 0.99}))
    table = store.read_table(groups.digest)
    assert table["sample"].to_pylist() == ["A/test/copy", "A/train/scene"]
