import pytest
import torch

from models.evaluation.retrieval import recall_at_k, restricted

TOY = torch.tensor([[0.9, 0.1, 0.3, 0.2], [0.2, 0.8, 0.7, 0.1]])  # reference 9.1: 2 images, 4 captions


def test_toy_of_the_reference():
    assert recall_at_k(torch.eye(2), TOY.T, torch.tensor([0, 0, 1, 1]), (1, 2)) == [0.5, 1.0]


def test_perfect_features_reach_one_whatever_the_order_of_the_captions():
    owners = torch.tensor([2, 0, 1, 0, 2, 1])
    assert recall_at_k(torch.eye(3), torch.eye(3)[owners], owners, (1,)) == [1.0]


@pytest.mark.parametrize("chunk", [1, 3, 16, 100])
def test_chunks_do_not_change_the_recall(chunk):
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(16, 4, generator=generator), torch.randn(48, 4, generator=generator)
    owners = torch.arange(16).repeat_interleave(3)
    assert recall_at_k(images, texts, owners, (1, 5), chunk) == recall_at_k(images, texts, owners, (1, 5), 10_000)


def test_an_image_without_a_text_is_refused():
    with pytest.raises(ValueError, match="position 1"):
        recall_at_k(torch.eye(2), torch.eye(2), torch.tensor([0, 0]), (1,))


def test_restricted_sets_keep_the_images_with_their_texts():
    images, texts, owners = restricted(torch.eye(3), TOY.T[:, :1], torch.tensor([2, 0, 1, 2]), torch.tensor([0, 2]))
    assert images.tolist() == [[1, 0, 0], [0, 0, 1]] and owners.tolist() == [1, 0, 1]
    assert torch.equal(texts, TOY.T[[0, 1, 3], :1])
