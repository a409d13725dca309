import pytest
import torch

from models.evaluation.ranking import best_of, blocks_of, rank_of


def test_rank_counts_what_is_more_similar():
    assert rank_of(torch.tensor([[0.1, 0.9, 0.5]]).expand(3, 3), torch.tensor([0, 1, 2])).tolist() == [2, 0, 1]


def test_ties_go_to_the_left_as_in_argmax():
    assert rank_of(torch.zeros(3, 3), torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


def test_rank_zero_is_what_argmax_returns():
    similarity = torch.randint(0, 4, (200, 7), generator=torch.Generator().manual_seed(0)).float()
    answer = torch.randint(0, 7, (200,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(rank_of(similarity, answer) == 0, similarity.argmax(1) == answer)


@pytest.mark.parametrize("columns", [1, 3, 5, 6, 40])
def test_the_best_come_in_order_and_equal_ones_from_the_left(columns):
    similarity = torch.randint(0, 4, (200, columns), generator=torch.Generator().manual_seed(0)).float()
    ordered = similarity.sort(dim=1, descending=True, stable=True).indices[:, :5]
    assert torch.equal(best_of(similarity, 5)[:, :columns], ordered)
    assert bool((best_of(similarity, 5)[:, columns:] == -1).all())


def test_blocks_are_of_one_length_and_lose_no_row():
    rows = torch.arange(150)
    blocks = [*blocks_of(rows)]
    assert {len(block) for block, _ in blocks} == {64} and [count for _, count in blocks] == [64, 64, 22]
    assert torch.equal(torch.cat([block[:count] for block, count in blocks]), rows)
