"""The outcomes of evaluations against plain loops over what the model itself says of each image."""

import json
import math

import pytest
import torch

from data_catalog import store
from models import clip
from models.batches import centred_images
from models.evaluation.metrics import CLASSES
from models.evaluation.scoring import evaluate
from tests.models.evaluation.made_sets import made_set, of_rows, three_sets


@pytest.fixture
def siglip(tiny_folder):
    """The tiny model with the bias of a sigmoid loss."""
    config = json.loads((tiny_folder / clip.CONFIG_FILE).read_text())
    config["model_cfg"] |= {"init_logit_bias": -3.0, "init_logit_scale": 1.0}
    (tiny_folder / clip.CONFIG_FILE).write_text(json.dumps(config))
    return clip.initialise(str(tiny_folder), seed=0)


@torch.inference_mode()
def similarity(checkpoint, eval_set):
    """Cosines [images, texts] as lists, the model and the image rows."""
    model, rows = clip.build(checkpoint), store.read_table(eval_set.digest)
    texts = json.loads(store.read_bytes(eval_set.texts))
    pixels = clip.normalise(centred_images(rows, 16), checkpoint.backbone)
    images = model.encode_image(pixels, normalize=True)
    return (images @ model.encode_text(clip.tokenizer(checkpoint.backbone)(texts), normalize=True).T).tolist(), model


def outcomes(checkpoint, eval_set):
    return store.read_table(evaluate(checkpoint, [eval_set]).outcomes[eval_set.name])


def test_classes_are_ranked_as_in_a_plain_loop_and_equal_ones_from_the_left(tiny, tmp_path):
    three_sets(tmp_path)
    texts = ["a red", "a green", "a red", "a photo", "a red", "blue", "a circle"]
    found = outcomes(tiny, made_set(tmp_path, "tied", "classification", texts, [0, 2, 4, 6] * 5))
    rows, model = similarity(tiny, made_set(tmp_path, "tied", "classification", texts, [0, 2, 4, 6] * 5))
    scale = model.logit_scale.exp().item()
    for row, outcome in zip(rows, found.to_pylist(), strict=True):
        row[2] = row[4] = row[0]  # the loop's product may round equal columns differently
        order = sorted(range(7), key=lambda c: (-row[c], c))
        assert (outcome["rank"], outcome["top"]) == (order.index(outcome["target"]), order[:5])
        likely = 1 / sum(math.exp(scale * (value - row[order[0]])) for value in row)
        assert outcome["confidence"] == pytest.approx(likely, rel=1e-3)
    assert found.schema.metadata[CLASSES] == b"7" and found["target"].to_pylist() == [0, 2, 4, 6] * 5


def test_captions_are_ranked_as_in_a_plain_loop(tiny, tmp_path):
    pairs = three_sets(tmp_path)[2]
    found, (rows, _) = outcomes(tiny, pairs).to_pylist(), similarity(tiny, pairs)
    for i, outcome in enumerate(found):
        own = [2 * i, 2 * i + 1]
        assert outcome["image_rank"] == min(sum(value > rows[i][text] for value in rows[i]) for text in own)
        assert outcome["text_ranks"] == [sum(row[text] > rows[i][text] for row in rows) for text in own]


def test_a_sigmoid_model_gives_the_best_class_its_own_probability(siglip, tmp_path):
    first = three_sets(tmp_path)[0]
    rows, model = similarity(siglip, first)
    scale, bias = model.logit_scale.exp().item(), model.logit_bias.item()
    assert bias == -3
    expected = [1 / (1 + math.exp(-(scale * max(row) + bias))) for row in rows]
    assert outcomes(siglip, first)["confidence"].to_pylist() == pytest.approx(expected, rel=1e-4)


def test_concepts_and_clean_images_stay_known(tiny, tmp_path):
    first = three_sets(tmp_path)[0]
    rows = [
        row | {"concept": str(i), "clean": i > 3} for i, row in enumerate(store.read_table(first.digest).to_pylist())
    ]
    marked = of_rows("marked", "classification", json.loads(store.read_bytes(first.texts)), rows)
    found = outcomes(tiny, marked)
    assert found["concept"].to_pylist() == [str(i) for i in range(12)] and sum(found["clean"].to_pylist()) == 8
    assert not {"concept", "clean"} & {*outcomes(tiny, first).column_names}
