import math

import pytest
import torch

from models.evaluation.zero_shot import Head, answers

SOFTMAX = Head(scale=10, bias=None)


def test_images_on_their_class_prompt_are_answered_right():
    found = answers(torch.eye(4), torch.eye(4), torch.arange(4), SOFTMAX)
    assert found.rank.tolist() == [0, 0, 0, 0] and found.top[2].tolist() == [2, 0, 1, 3, -1]


def test_features_that_collapsed_rank_like_one_constant_answer():
    found = answers(torch.ones(4, 3), torch.ones(9, 3), torch.arange(4), SOFTMAX)
    assert found.rank.tolist() == [0, 1, 2, 3] and found.top.tolist() == [[0, 1, 2, 3, 4]] * 4


@pytest.mark.parametrize("ties", [False, True])
def test_answers_are_those_of_a_plain_loop(ties):
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randn(150, 8, generator=generator), torch.randn(20, 8, generator=generator)
    if ties:
        images, classes = images.round(), classes.round()
    targets = torch.randint(0, 20, (150,), generator=generator)
    found = answers(images, classes, targets, SOFTMAX)
    for row, target, rank, top, confidence in zip((images @ classes.T).tolist(), targets.tolist(), *found, strict=True):
        order = sorted(range(20), key=lambda c: (-row[c], c))
        assert order.index(target) == rank and order[:5] == top.tolist()
        assert confidence == pytest.approx(1 / sum(math.exp(10 * (v - row[order[0]])) for v in row), rel=1e-4)


def test_of_an_image_its_answer_follows_alone():
    generator = torch.Generator().manual_seed(0)
    images, classes = torch.randn(150, 8, generator=generator), torch.randn(33, 8, generator=generator)
    targets = torch.arange(150) % 33
    whole, part = answers(images, classes, targets, SOFTMAX), answers(images[3:10], classes, targets[3:10], SOFTMAX)
    assert all(torch.equal(one[3:10], other) for one, other in zip(whole, part, strict=True))


def test_the_sigmoid_head_gives_each_class_its_own_probability():
    head = Head(scale=2, bias=-1)
    found = answers(torch.eye(2), torch.eye(2), torch.arange(2), head)
    assert found.confidence.tolist() == pytest.approx([1 / (1 + math.exp(-1))] * 2)
