import pytest
import torch

from models.evaluation.zero_shot import count_hits


def test_images_on_their_class_prompt_all_hit():
    assert count_hits(torch.eye(4), torch.eye(4), torch.arange(4), (1, 2)).tolist() == [4, 4]


def test_features_that_collapsed_score_like_one_constant_answer():
    assert count_hits(torch.ones(4, 3), torch.ones(4, 3), torch.arange(4)).tolist() == [1]


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_chunks_do_not_change_the_count(chunk):
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randn(64, 8, generator=generator), torch.randn(20, 8, generator=generator)
    targets = torch.randint(0, 20, (64,), generator=generator)
    expected = int(((images @ classes.T).argmax(1) == targets).sum())
    assert count_hits(images, classes, targets, (1, 20), chunk).tolist() == [expected, 64]
