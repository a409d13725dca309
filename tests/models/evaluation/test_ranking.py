import torch

from models.evaluation.ranking import hits_at, rank_of


def test_rank_counts_what_is_more_similar():
    assert rank_of(torch.tensor([[0.1, 0.9, 0.5]]).expand(3, 3), torch.tensor([0, 1, 2])).tolist() == [2, 0, 1]


def test_ties_go_to_the_left_as_in_argmax():
    assert rank_of(torch.zeros(3, 3), torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


def test_rank_zero_is_what_argmax_returns():
    similarity = torch.randint(0, 4, (200, 7), generator=torch.Generator().manual_seed(0)).float()
    answer = torch.randint(0, 7, (200,), generator=torch.Generator().manual_seed(1))
    assert torch.equal(rank_of(similarity, answer) == 0, similarity.argmax(1) == answer)


def test_hits_grow_with_k():
    assert hits_at(torch.tensor([0, 1, 4, 5]), (1, 2, 5)).tolist() == [1, 2, 3]
