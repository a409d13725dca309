import pytest
import torch
from pydantic import TypeAdapter

from models.merging import AnyTechnique, electing, engine
from models.merging.lines import Lines

BASE = {"w": [1, -1, 0.5, 0, 2, -0.5, 1.5, 0.25, -2, 0.75], "s": 4.6}
EXPERTS = [
    {"w": [1.1, -1.3, 0.5, 0.2, 1.6, -0.5, 1.45, 0.3, -2.6, 0.74], "s": 4.7},
    {"w": [0.8, -1.1, 0.7, -0.3, 2.1, -0.4, 1.5, 0.2, -1.9, 0.79], "s": 4.5},
    {"w": [1.3, -0.6, 0.4, 0.1, 2.2, -0.9, 1.58, 0.28, -2.2, 0.7], "s": 4.65},
]
ORACLE = [  # computed by the code of TIME in float64
    (3, {"kind": "linear"}, "1.066667 -1 .533333 0 1.966667 -.6 1.51 .26 -2.233333 .743333", 4.616667),
    (3, {"kind": "linear", "weights": (0.5, 0.3, 0.2)}, "1.05 -1.1 .54 .03 1.87 -.55 1.491 .266 -2.31 .747", 4.63),
    (2, {"kind": "linear", "weights": (0.9, 0.1)}, "1.07 -1.28 .52 .15 1.65 -.49 1.455 .29 -2.53 .745", 4.68),
    (2, {"kind": "slerp"}, ".959302 -1.21175 .605875 -.05049 1.868114 -.454406 1.489442 .252448 -2.27203 .77249", 4.6),
    (
        2,
        {"kind": "slerp", "weights": (0.9, 0.1), "paper": True},
        ".833205 -1.124132 .682206 -.25041 2.056748 -.411538 1.500217 .210834 -1.977596 .787717",
        4.52,
    ),
    (3, {"kind": "task_arithmetic", "scale": 0.3}, "1.06 -1 .53 0 1.97 -.59 1.509 .259 -2.21 .744", 4.615),
    (3, {"kind": "ties", "density": 0.8}, "1.2 -1.2 .7 .15 1.6 -.9 1.58 .2 -2.4 .72", 4.675),
    (3, {"kind": "ties", "density": 0.3}, "1.3 -1.2 .7 -.3 1.6 -.9 1.5 .25 -2.4 .75", 4.7),
    (3, {"kind": "ties", "density": 0.3, "agreeing": "sum"}, "1.3 -1.4 .7 -.3 1.6 -.9 1.5 .25 -2.8 .75", 4.7),
    (3, {"kind": "ties", "density": 0.3, "agreeing": "max"}, "1.3 -1.3 .7 -.3 1.6 -.9 1.5 .25 -2.6 .75", 4.7),
    (
        3,
        {"kind": "breadcrumbs_ties", "density": 0.8, "gamma": 0.1},
        "1.2 -1.2 .7 .15 1.6 -.9 1.58 .2 -2.2 .74",
        4.675,
    ),
    (3, {"kind": "magmax", "scale": 0.5}, "1.15 -.8 .6 -.15 1.8 -.7 1.54 .275 -2.3 .725", 4.65),
    (2, {"kind": "model_stock"}, "1.06812 -.72752 .36376 .06812 2.20436 -.56812 1.53406 .25 -1.659399 .729564", 4.6),
    (3, {"kind": "tall_masks"}, "1.2 -1 .6 0 1.9 -.8 1.53 .28 -2.7 .73", 4.65),
    (3, {"kind": "tall_masks", "votes": 2}, "1.2 -1 .6 0 1.9 -.5 1.53 .28 -2.7 .73", 4.65),
]
KINDS = ["linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties", "breadcrumbs_linear",
         "breadcrumbs_ties", "magmax", "model_stock", "tall_masks", "random", "karcher"]  # fmt: skip
ON_VECTORS = [kind for kind in KINDS if kind not in ("linear", "slerp", "karcher", "model_stock")]


def technique(**settings):
    return TypeAdapter(AnyTechnique).validate_python(settings)


def tensors(weights, dtype=torch.float64):
    return {name: torch.tensor(values, dtype=dtype) for name, values in weights.items()}


def drawn(count, seed=0, size=1000):
    generator = torch.Generator().manual_seed(seed)
    base = {"a.w": torch.randn(size // 50, 50, generator=generator), "visual.b": torch.randn(7, generator=generator),
            "logit_scale": torch.tensor(3.0)}  # fmt: skip
    return base, [
        {name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) for name, tensor in base.items()}
        for _ in range(count)
    ]


def for_two(kind):
    """How many experts a kind is tried with."""
    return 2 if kind == "slerp" else 3


@pytest.mark.parametrize(("count", "settings", "w", "s"), ORACLE, ids=lambda value: str(value)[:40])
def test_merges_equal_the_reference(count, settings, w, s):
    merged = technique(**settings).merge(tensors(BASE), [tensors(expert) for expert in EXPERTS[:count]])
    assert merged["w"].dtype == torch.float64
    assert merged["w"].tolist() == pytest.approx([float(x) for x in w.split()], abs=1e-6)
    assert merged["s"].item() == pytest.approx(s, abs=1e-6)


def test_lines_gives_each_layer_its_own_length_in_place_of_the_scale():
    base = {f"transformer.resblocks.{i}.w": torch.full((2,), i + 1.0) for i in range(3)} | {"head": torch.ones(2)}
    experts = [{name: tensor + 1 for name, tensor in base.items()} for _ in range(2)]
    merged = technique(kind="task_arithmetic", scale=0.7, lines=Lines()).merge(base, experts)
    assert [tensor[0].item() for tensor in merged.values()] == pytest.approx([2.0, 2.0, 3.5, 5.0])


@pytest.mark.parametrize(("paper", "expected"), [(False, [1.5, 2.75, 4.0]), (True, [1.0, 2.25, 4.0])])
def test_lines_on_a_mean_scales_the_way_to_it_and_as_published_the_weights(paper, expected):
    base = {f"resblocks.{i}.w": torch.full((1,), i + 1.0) for i in range(3)}
    experts = [{name: tensor + 1 for name, tensor in base.items()} for _ in range(2)]
    merged = technique(kind="linear", lines=Lines(), paper=paper).merge(base, experts)
    assert [tensor.item() for tensor in merged.values()] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["linear", "slerp", "karcher", "model_stock", "task_arithmetic", "magmax", "random"])
def test_a_single_expert_comes_back(kind):
    base, (expert,) = drawn(1)
    merged = technique(kind=kind).merge(base, [expert])
    assert all(torch.allclose(merged[name], expert[name], atol=1e-6) for name in expert)
    assert kind not in ("linear", "slerp", "karcher") or all(torch.equal(merged[name], expert[name]) for name in expert)


@pytest.mark.parametrize("kind", ["ties", "dare_ties", "dare_linear", "breadcrumbs_linear"])
def test_density_one_keeps_everything(kind):
    base, (expert,) = drawn(1)
    gamma = {"gamma": 0.0} if kind.startswith("breadcrumbs") else {}
    merged = technique(kind=kind, density=1, **gamma).merge(base, [expert])
    assert all(torch.allclose(merged[name], expert[name], atol=1e-6) for name in expert)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("dare") and kind != "random"])
def test_the_order_of_experts_does_not_matter(kind):
    base, experts = drawn(for_two(kind))
    merged, other = (technique(kind=kind).merge(base, order) for order in (experts, experts[::-1]))
    assert all(torch.allclose(merged[name], other[name], atol=1e-5) for name in merged)


@pytest.mark.parametrize("kind", [*ON_VECTORS, "model_stock"])
def test_longer_task_vectors_give_a_longer_one(kind):
    base, experts = drawn(for_two(kind))
    far = [{name: base[name] + 4 * (expert[name] - base[name]) for name in base} for expert in experts]
    merged, longer = (technique(kind=kind).merge(base, each) for each in (experts, far))
    for name in base:
        if name != "logit_scale" or kind != "model_stock":  # one number has no angle
            assert torch.allclose(longer[name] - base[name], 4 * (merged[name] - base[name]), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_is_merged_to_one_between_or_about_those_given(kind):
    base = {"logit_scale": torch.tensor(4.6)}
    experts = [{"logit_scale": torch.tensor(value)} for value in (4.7, 4.5, 4.65)][: for_two(kind)]
    gamma = {"gamma": 0.0} if kind.startswith("breadcrumbs") else {}
    merged = technique(kind=kind, **gamma).merge(base, experts)["logit_scale"]
    assert merged.shape == () and 4.0 < merged < 5.2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_was_given_changes(kind):
    base, experts = drawn(for_two(kind))
    before = [{name: tensor.clone() for name, tensor in weights.items()} for weights in (base, *experts)]
    technique(kind=kind).merge(base, experts)
    after = [base, *experts]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(before, after, strict=True) for name in base)


@pytest.mark.parametrize("kind", KINDS)
def test_integers_come_from_the_newest_expert_and_types_stay(kind):
    base, experts = drawn(for_two(kind))
    half = [{**{n: t.bfloat16() for n, t in expert.items()}, "n": torch.tensor(i)} for i, expert in enumerate(experts)]
    merged = technique(kind=kind).merge({**base, "n": torch.tensor(9)}, half, newest=0)
    assert merged["n"].item() == 0 and merged["n"].dtype == torch.int64 and merged["a.w"].dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["linear", "task_arithmetic"])
def test_low_precision_is_merged_in_fp32(kind):
    base = {"w": torch.zeros(3)}
    experts = [{"w": torch.full((3,), value, dtype=torch.bfloat16)} for value in (1.0, 2**-9, 2**-9)]
    merged = technique(kind=kind).merge(base, experts)["w"].float()
    assert merged.tolist() == [float(torch.tensor((1 + 2**-8) / (3 if kind == "linear" else 1)).bfloat16())] * 3


@pytest.mark.parametrize(("kind", "share"), [("dare_linear", 0.3), ("random", None)])
def test_what_is_drawn_follows_from_the_seed(kind, share):
    base, experts = drawn(2)
    settings = {"density": share} if share else {}
    merged = [technique(kind=kind, **settings).merge(base, experts, seed=seed)["a.w"] for seed in (0, 0, 1)]
    assert torch.equal(merged[0], merged[1]) and not torch.equal(merged[0], merged[2])


def test_dropping_keeps_the_share_and_the_mean():
    base, expert = {"w": torch.zeros(200_000)}, {"w": torch.ones(200_000)}
    merged = technique(kind="dare_linear", density=0.3).merge(base, [expert])["w"]
    assert merged.unique().tolist() == pytest.approx([0, 1 / 0.3]) and merged.mean() == pytest.approx(1, abs=0.02)


def test_dropping_as_published_keeps_an_exact_number():
    base, expert = {"w": torch.zeros(1000)}, {"w": torch.ones(1000)}
    merged = technique(kind="dare_linear", density=0.3, paper=True).merge(base, [expert])["w"]
    assert int((merged == 0).sum()) == 699  # k - 1, k = int(1000 x .7)


def test_drawing_takes_every_expert_as_often():
    base, experts = {"w": torch.zeros(90_000)}, [{"w": torch.full((90_000,), float(i))} for i in (1, 2, 3)]
    found = technique(kind="random").merge(base, experts)["w"]
    assert [int((found == i).sum()) for i in (1, 2, 3)] == pytest.approx([30_000] * 3, rel=0.03)


@pytest.mark.parametrize("kind", ["dare_linear", "random"])
def test_tied_tensors_stay_tied(kind):
    base, experts = drawn(2)
    tied = [{**weights, "z.w": weights["a.w"].clone()} for weights in (base, *experts)]
    merged = technique(kind=kind).merge(tied[0], tied[1:])
    assert torch.equal(merged["a.w"], merged["z.w"]) and not torch.equal(merged["a.w"], base["a.w"])


@pytest.mark.parametrize("most", [engine.MOST_PATCHES, 0])
def test_exact_cancellation_takes_the_sign_of_the_majority_of_its_half(monkeypatch, most):
    monkeypatch.setattr(engine, "MOST_PATCHES", most)
    monkeypatch.setattr(electing, "MOST_PATCHES", most)
    base = {"w": torch.zeros(4), "visual.w": torch.zeros(2)}
    experts = [
        {"w": torch.tensor([1.0, -3.0, -3.0, 2.0]), "visual.w": torch.tensor([1.0, 5.0])},
        {"w": torch.tensor([-1.0, -3.0, -3.0, 2.0]), "visual.w": torch.tensor([-1.0, 5.0])},
    ]
    merged = technique(kind="ties", density=1).merge(base, experts)
    assert merged["w"].tolist() == [-1, -3, -3, 2] and merged["visual.w"].tolist() == [1, 5]


def test_a_trim_is_that_of_a_half_of_the_model_not_of_a_tensor():
    base = {"a": torch.zeros(2), "b": torch.zeros(2), "visual.c": torch.zeros(2)}
    expert = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0]), "visual.c": torch.tensor([0.1, 0.2])}
    merged = technique(kind="ties", density=0.25).merge(base, [expert])
    assert merged["a"].tolist() == [0, 0] and merged["b"].tolist() == [3, 4]  # k - 1 of 4 go
    assert merged["visual.c"].tolist() == pytest.approx([0.1, 0.2])


def test_slerp_weighs_as_interpolation_does_and_keeps_the_length():
    one, other = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}
    merged = technique(kind="slerp", weights=(0.75, 0.25)).merge({}, [one, other])["w"]
    assert merged[0] > merged[1] and merged.norm() == pytest.approx(1)


def test_the_karcher_mean_is_equally_far_from_all():
    axes = [{"w": torch.eye(3)[i] * 2} for i in range(3)]
    mean = technique(kind="karcher").merge({}, axes)["w"]
    assert mean.tolist() == pytest.approx([2 / 3**0.5] * 3, abs=1e-6)


def test_the_karcher_mean_of_two_is_the_middle_of_their_arc():
    one, other = {"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([1.0, 1.0]) * 3 / 2**0.5}
    between = technique(kind="slerp").merge({}, [one, other])["w"]
    assert torch.allclose(technique(kind="karcher").merge({}, [one, other])["w"], between, atol=1e-6)


@pytest.mark.parametrize("kind", ON_VECTORS)
def test_weights_of_experts_matter(kind):
    base, experts = drawn(2)
    gamma = {"gamma": 0.0} if kind.startswith("breadcrumbs") else {}
    alike, first = (technique(kind=kind, weights=w, **gamma).merge(base, experts) for w in ((0.5, 0.5), (1.0, 0.0)))
    plain = technique(kind=kind, **gamma).merge(base, experts)
    assert torch.allclose(alike["a.w"], plain["a.w"]) and not torch.allclose(first["a.w"], plain["a.w"], atol=1e-3)


def test_opposite_experts_do_not_blow_up_a_model_stock():
    base = {"w": torch.zeros(2)}
    experts = [{"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([-1.0, -1.001])}]
    merged = technique(kind="model_stock").merge(base, experts)["w"]
    published = technique(kind="model_stock", paper=True).merge(base, experts)["w"]
    assert merged.abs().max() < 1 < published.abs().max()


def test_votes_leave_out_what_few_experts_care_about():
    base = {"w": torch.zeros(2)}
    experts = [{"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([1.0, 0.0])}]
    assert technique(kind="tall_masks", votes=2).merge(base, experts)["w"].tolist() == [2, 0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "linear", "weights": (0.5, 0.6)}, "expected 1"),
        ({"kind": "breadcrumbs_linear", "density": 0.001, "gamma": 0.999}, "leave nothing"),
        ({"kind": "ties", "density": 0.9999, "paper": True}, "trims none"),
        ({"kind": "slerp"}, "merges 2 experts, found 3"),
        ({"kind": "model_stock", "paper": True}, "merges 2 experts with `paper`, found 3"),
        ({"kind": "ties", "weights": (0.5, 0.5)}, "2 merge weights for 3 experts"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    base, experts = drawn(3)
    with pytest.raises(ValueError, match=message):
        technique(**settings).merge(base, experts)


def merged_of(kind, weights, *experts, **settings):
    base = {"w": torch.zeros(len(experts[0]), dtype=torch.float64)}
    rows = [{"w": torch.tensor(expert, dtype=torch.float64)} for expert in experts]
    return technique(kind=kind, weights=weights, **settings).merge(base, rows)["w"]


@pytest.mark.parametrize("agreeing", ["mean", "max"])
def test_weights_elect_and_average_but_lengthen_nothing(agreeing):
    settings = {"density": 1, "agreeing": agreeing}
    assert merged_of("ties", (0.5, 0.5, 0.0), [1.0], [1.0], [7.0], **settings).tolist() == [1]
    assert merged_of("ties", (0.1, 0.1, 0.8), [0.0, -1.0], [0.0, -1.0], [1.0, 1.0], **settings).tolist() == [1, 1]


def test_the_mean_of_those_that_agree_is_by_weight():
    merged = merged_of("ties", (0.6, 0.2, 0.2), [1.0], [3.0], [-9.0], density=1)
    assert merged.tolist() == [-9]  # .6 + .6 < 1.8
    assert merged_of("ties", (0.6, 0.2, 0.2), [1.0], [3.0], [-1.0], density=1).item() == pytest.approx(1.2 / 0.8)


def test_weights_choose_the_largest_but_do_not_change_it():
    assert merged_of("magmax", (0.7, 0.3), [1.0, 1.0], [2.0, 3.0]).tolist() == [1, 3]


def test_an_expert_is_drawn_as_often_as_its_weight_says():
    drawn = merged_of("random", (0.0, 0.25, 0.75), *([float(i)] * 20_000 for i in (1, 2, 3)))
    assert set(drawn.tolist()) == {2, 3} and (drawn == 2).double().mean().item() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("kind", ["ties", "dare_ties", "breadcrumbs_ties", "magmax", "random"])
def test_weights_that_choose_are_not_negative(kind):
    with pytest.raises(ValueError, match="below 0"):
        technique(kind=kind, weights=(-0.5, 1.5))


def test_the_published_interpolation_shrinks_a_single_expert_too():
    lines = {"alpha": 0.5, "beta": 0.0}
    name = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    one = {name: torch.ones(2)}
    assert technique(kind="linear", lines=lines, paper=True).merge(one, [one])[name].tolist() == [0.5, 0.5]
