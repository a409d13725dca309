import pytest
import torch

from models.evaluation.zero_shot import class_ranks


def test_images_on_their_class_prompt_are_answered_right():
    assert class_ranks(torch.eye(4), torch.eye(4), torch.arange(4)).tolist() == [0, 0, 0, 0]


def test_features_that_collapsed_rank_like_one_constant_answer():
    assert class_ranks(torch.ones(4, 3), torch.ones(4, 3), torch.arange(4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_do_not_change_the_ranks(chunk):
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randn(64, 8, generator=generator), torch.randn(20, 8, generator=generator)
    targets = torch.randint(0, 20, (64,), generator=generator)
    ranks = class_ranks(images, classes, targets, chunk)
    assert torch.equal(ranks == 0, (images @ classes.T).argmax(1) == targets) and ranks.max() < 20
