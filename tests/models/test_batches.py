import numpy as np
import torch
from PIL import Image

from data_catalog.seeds import rng
from models.batches import StepBatches, _centre, crop_boxes


def _tokenize(texts):
    return torch.tensor([[len(text)] for text in texts])


def test_a_batch_depends_only_on_plan_seed_and_iteration(step_plan):
    in_order = list(StepBatches(step_plan, 16, _tokenize, seed=0).ahead(0))
    alone = StepBatches(step_plan, 16, _tokenize, seed=0).batch(5)
    assert torch.equal(in_order[5].images, alone.images) and torch.equal(in_order[5].tokens, alone.tokens)
    assert not torch.equal(alone.images, StepBatches(step_plan, 16, _tokenize, seed=1).batch(5).images)


def test_batches_go_on_from_any_iteration(step_plan):
    assert len(list(StepBatches(step_plan, 16, _tokenize, seed=0).ahead(6))) == 2


def test_crops_lie_inside_the_image_and_cover_nine_tenths():
    sizes = np.array([[100, 100], [224, 300], [31, 32]] * 50)
    boxes = crop_boxes(sizes, rng(0))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= sizes).all()
    assert (width * height >= 0.88 * sizes.prod(1)).all()  # rounding to whole pixels


def test_an_image_that_is_too_long_gets_the_largest_allowed_crop():
    (box,) = crop_boxes(np.array([[400, 100]]), rng(0))
    assert box.tolist() == [133, 0, 266, 100]


def test_centre_crop_keeps_the_shorter_side():
    image = Image.new("RGB", (60, 30), "red")
    assert _centre(image, 16).size == (16, 16)
