import pytest
import torch

from models.evaluation.retrieval import retrieval_ranks

TOY = torch.tensor([[0.9, 0.1, 0.3, 0.2], [0.2, 0.8, 0.7, 0.1]])  # reference 9.1: 2 images, 4 captions


def test_toy_of_the_reference():
    images, texts = retrieval_ranks(torch.eye(2), TOY.T.contiguous(), torch.tensor([0, 0, 1, 1]))
    assert images.tolist() == [0, 1] and texts.tolist() == [0, 1, 0, 1]  # so R@1 is 0.5 and R@2 is 1


def test_perfect_features_reach_the_top_whatever_the_order_of_the_captions():
    owners = torch.tensor([2, 0, 1, 0, 2, 1])
    images, texts = retrieval_ranks(torch.eye(3), torch.eye(3)[owners], owners)
    assert not images.any() and not texts.any()


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_those_of_a_plain_double_loop(ties):
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(70, 4, generator=generator), torch.randn(150, 4, generator=generator)
    if ties:
        images, texts = images.round(), texts.round()
    owners = torch.cat([torch.arange(70), torch.randint(0, 70, (80,), generator=generator)])
    similarity = (images @ texts.T).tolist()
    found = retrieval_ranks(images, texts, owners)
    assert found[1].tolist() == [before([row[t] for row in similarity], o) for t, o in enumerate(owners.tolist())]
    own = [[t for t, o in enumerate(owners.tolist()) if o == i] for i in range(70)]
    assert found[0].tolist() == [min(before(row, t) for t in own[i]) for i, row in enumerate(similarity)]


def before(values, answer):
    """How many entries come before one of them: greater, or equal and further left."""
    ahead = [v > values[answer] or (v == values[answer] and i < answer) for i, v in enumerate(values)]
    return sum(ahead)
