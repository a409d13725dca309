"""Embeddings are those of the model itself, in the order of the rows, however they are cut."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from data_catalog import store
from data_catalog.shards import DatasetRef
from models import clip, embeddings
from models.checkpoints import load, save
from models.embeddings import (
    embed_dataset,
    embed_images,
    embed_rows,
    embed_texts,
    load_embeddings,
    tower_digest,
    without_texts,
)


@pytest.fixture
def rows(step_plan):
    return store.read_table(step_plan.digest, embeddings.IMAGE_COLUMNS)


@pytest.fixture
def dataset(rows):
    """The 64 images as a dataset: 40 to train on, interleaved with 24 to test on."""
    splits = ["test" if i % 8 < 3 else "train" for i in range(len(rows))]
    table = rows.append_column("split", pa.array(splits))
    return DatasetRef(
        digest=store.write_table(table), name="PLAIN", samples={"train": 40, "test": 24}, kind="classification"
    )


def test_images_are_embedded_as_the_model_does(tiny, rows):
    model, size = clip.build(tiny), clip.preprocessing(tiny.backbone).size
    pixels = clip.normalise(embeddings.centred_images(rows, size), tiny.backbone)
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(embed_images(model, tiny.backbone, rows), expected)


def test_a_backbone_that_was_trained_on_squashed_images_sees_them_squashed(tiny, tiny_folder, rows):
    config = json.loads((tiny_folder / clip.CONFIG_FILE).read_text())
    config["preprocess_cfg"]["resize_mode"] = "squash"
    (tiny_folder / clip.CONFIG_FILE).write_text(json.dumps(config))
    model, backbone = clip.build(tiny), clip.describe(str(tiny_folder))
    squashed = clip.normalise(embeddings.centred_images(rows, 16, squash=True), backbone)
    with torch.no_grad():
        expected = model.encode_image(squashed, normalize=True)
    torch.testing.assert_close(embed_images(model, backbone, rows), expected)
    assert not torch.allclose(embed_images(model, tiny.backbone, rows), expected, atol=1e-3)


def test_batches_do_not_change_the_embeddings(tiny, rows):
    model = clip.build(tiny)
    whole = embed_images(model, tiny.backbone, rows)
    assert torch.equal(embed_images(model, tiny.backbone, rows, batch_size=7), whole)


def test_an_image_is_embedded_alike_whatever_stands_beside_it(tiny, rows):
    model = clip.build(tiny)
    whole = embed_images(model, tiny.backbone, rows)
    assert torch.equal(embed_images(model, tiny.backbone, rows.slice(40, 3)), whole[40:43])


def test_texts_are_embedded_in_their_order(tiny):
    model, texts = clip.build(tiny), ["a red square", "a blue circle", "a photo"]
    whole = embed_texts(model, tiny.backbone, texts)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(3))
    assert torch.equal(embed_texts(model, tiny.backbone, texts[::-1]), whole.flip(0))


def test_texts_of_any_length_are_embedded_as_the_model_does(tiny):
    model, texts = clip.build(tiny), [" ".join(["red"] * words) for words in (0, 1, 3, 6, 7, 14, 15, 40)]
    with torch.no_grad():
        expected = model.encode_text(clip.tokenizer(tiny.backbone)(texts), normalize=True)
    torch.testing.assert_close(embed_texts(model, tiny.backbone, texts), expected)


def test_a_text_is_embedded_alike_whatever_stands_beside_it(tiny):
    model, texts = clip.build(tiny), [" ".join(["red"] * words) for words in range(20)] * 5
    whole = embed_texts(model, tiny.backbone, texts)
    alone = torch.cat([embed_texts(model, tiny.backbone, [text]) for text in texts[:20]])
    assert torch.equal(whole, alone.repeat(5, 1))


@pytest.mark.parametrize("changed, towers", [("visual.proj", ["image"]), ("text_projection", ["text"]),
                                             ("logit_scale", [])])  # fmt: skip
def test_the_digest_of_a_tower_follows_from_its_weights_alone(tiny, changed, towers):
    weights = {name: weight + 1 if name == changed else weight for name, weight in load(tiny).items()}
    other = save(weights, tiny.backbone)
    assert [t for t in ("image", "text") if tower_digest(tiny, t) != tower_digest(other, t)] == towers


def test_a_model_without_texts_embeds_images_alike(tiny, rows):
    whole = embed_images(clip.build(tiny), tiny.backbone, rows)
    model = without_texts(clip.build(tiny))
    assert torch.equal(embed_images(model, tiny.backbone, rows), whole)
    assert sum(parameter.numel() for parameter in model.transformer.parameters()) == 0


def test_a_dataset_keeps_the_order_of_its_table(tiny, dataset, rows):
    ref = embed_dataset(dataset, tiny, ("test",))
    expected = embed_images(clip.build(tiny), tiny.backbone, rows)[[i for i in range(64) if i % 8 < 3]]
    assert (ref.rows, ref.dim, ref.dataset, ref.splits) == (24, 16, dataset.digest, ("test",))
    np.testing.assert_allclose(load_embeddings(ref), expected, atol=1e-3)


def test_equal_inputs_give_equal_embeddings(tiny, dataset):
    assert embed_dataset(dataset, tiny) == embed_dataset(dataset, tiny)


def test_pieces_make_the_whole_to_the_last_bit(tiny, dataset):
    splits = ("train", "test")
    pieces = [embed_rows(dataset, tiny, splits, start, min(start + 25, 64)) for start in (50, 0, 25)]
    assert embed_dataset(dataset, tiny, splits, pieces=pieces) == embed_dataset(dataset, tiny)


@pytest.mark.parametrize("starts", [(0,), (32,), (0, 0, 32)])
def test_pieces_that_are_not_the_whole_are_refused(starts, tiny, dataset):
    pieces = [embed_rows(dataset, tiny, ("train", "test"), start, start + 32) for start in starts]
    with pytest.raises(ValueError, match="are not the 64 rows"):
        embed_dataset(dataset, tiny, pieces=pieces)


def test_progress_ends_at_the_last_image(tiny, dataset):
    told = []
    embed_dataset(dataset, tiny, progress=lambda *report: told.append(report))
    assert told[-1] == ("embed PLAIN", 64, 64)


def test_a_split_without_images_is_refused(tiny, dataset):
    with pytest.raises(ValueError, match=r"no image in val, only in \['test', 'train'\]"):
        embed_dataset(dataset, tiny, ("val",))


def test_diverged_weights_are_refused(tiny, dataset):
    broken = {name: torch.full_like(weight, torch.nan) for name, weight in load(tiny).items()}
    with pytest.raises(ValueError, match="not finite"):
        embed_dataset(dataset, save(broken, tiny.backbone))
