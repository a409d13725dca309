import pytest
import torch

from models.merging.linear import Linear

BASE = {"w": [1, -1, 0.5, 0, 2, -0.5, 1.5, 0.25, -2, 0.75], "s": 4.6}
EXPERTS = [
    {"w": [1.1, -1.3, 0.5, 0.2, 1.6, -0.5, 1.45, 0.3, -2.6, 0.74], "s": 4.7},
    {"w": [0.8, -1.1, 0.7, -0.3, 2.1, -0.4, 1.5, 0.2, -1.9, 0.79], "s": 4.5},
    {"w": [1.3, -0.6, 0.4, 0.1, 2.2, -0.9, 1.58, 0.28, -2.2, 0.7], "s": 4.65},
]


def _tensors(weights):
    return {name: torch.tensor(values) for name, values in weights.items()}


@pytest.mark.parametrize(
    "count, weights, w, s",
    [
        (3, None, "1.066667 -1 .533333 0 1.966667 -.6 1.51 .26 -2.233333 .743333", 4.616667),
        (3, (0.5, 0.3, 0.2), "1.05 -1.1 .54 .03 1.87 -.55 1.491 .266 -2.31 .747", 4.63),
        (2, (0.9, 0.1), "1.07 -1.28 .52 .15 1.65 -.49 1.455 .29 -2.53 .745", 4.68),
    ],
)
def test_interpolation_equals_the_reference(count, weights, w, s):
    merged = Linear(weights=weights).merge(_tensors(BASE), [_tensors(expert) for expert in EXPERTS[:count]])
    assert merged["w"].tolist() == pytest.approx([float(x) for x in w.split()], abs=1e-6)
    assert merged["s"].item() == pytest.approx(s, abs=1e-6)


def test_a_single_expert_comes_back_unchanged():
    expert = _tensors(EXPERTS[0])
    assert torch.equal(Linear().merge(_tensors(BASE), [expert])["w"], expert["w"])


def test_integers_come_from_the_last_expert_and_types_stay():
    experts = [
        {"n": torch.tensor(3), "h": torch.tensor([1.0], dtype=torch.bfloat16)},
        {"n": torch.tensor(4), "h": torch.tensor([2.0], dtype=torch.bfloat16)},
    ]
    merged = Linear().merge(experts[0], experts)
    assert merged["n"].item() == 4 and merged["h"].dtype == torch.bfloat16 and merged["h"].item() == 1.5


def test_weights_must_match_the_experts_and_sum_to_one():
    with pytest.raises(ValueError, match="one per expert"):
        Linear(weights=(0.5, 0.5)).merge(_tensors(BASE), [_tensors(expert) for expert in EXPERTS])
    with pytest.raises(ValueError, match="expected 1"):
        Linear(weights=(0.5, 0.6))


def test_other_layouts_are_refused_by_name():
    with pytest.raises(ValueError, match="'s'"):
        Linear().merge({}, [_tensors(EXPERTS[0]), {"w": torch.zeros(10)}])
    with pytest.raises(ValueError, match="shape"):
        Linear().merge({}, [{"w": torch.zeros(10)}, {"w": torch.zeros(9)}])
