import pytest

from models import budget, clip
from models.updates.finetune import Finetune
from models.updates.lora import Lora


@pytest.fixture
def vit_b_16():
    return clip.describe("ViT-B-16")


def test_full_finetuning_counts_the_published_gigaflops_and_iterations(vit_b_16):
    cost = budget.cost(vit_b_16, Finetune(), 512)
    assert cost.gflops == pytest.approx(63394.7585, rel=1e-8)
    assert [budget.iterations_for(budget.PAPER_TOTAL_MAFS, cost.mafs, steps) for steps in (20, 50, 100, 200)] == [
        1420,
        568,
        284,
        142,
    ]


def test_low_rank_adaptation_costs_less_and_buys_more_iterations(vit_b_16):
    full, low = (budget.cost(vit_b_16, method, 64) for method in (Finetune(), Lora(rank=4)))
    assert low.gflops < full.gflops and low.memory_multiplier < 1
    assert budget.iterations_for(1e9, low.mafs, 20) > budget.iterations_for(1e9, full.mafs, 20)


@pytest.mark.parametrize(
    "mafs, steps, expected",
    [
        (46170.1241, 20, 1949),
        (6932.7684, 200, 1298),
        (28307.9983, 50, 1272),
        (47407.8446, 100, 380),
        (6358925.364, 200, 1),
    ],
)
def test_iterations_round_half_up_as_published(mafs, steps, expected):
    assert budget.iterations_for(budget.PAPER_TOTAL_MAFS, mafs, steps) == expected


def test_a_budget_below_one_iteration_is_refused():
    with pytest.raises(ValueError, match="no iteration"):
        budget.iterations_for(10, 1000, 5)
