"""What a search tries: every combination of a grid, or draws that more trials only add to."""

import math

import pytest
from pydantic import TypeAdapter

from models.merging.fisher import Fisher
from models.merging.linear import Linear
from models.merging.search import AnySearch, Grid, Range, Sampled, check_fit, check_number, default_search, settings_of
from models.merging.slerp import Slerp
from models.merging.temporal import MergeSpec
from models.merging.ties import Ties

TIES = {"kind": "ties", "density": {"low": 0.1, "high": 0.9}, "scale": {"low": 0.01, "high": 1, "log": True}}
WEIGHTS = {"kind": "linear", "weights": {"low": 0.2, "high": 0.6, "pair": True}}


def sampled(trials, *techniques):
    return Sampled(trials=trials, techniques=techniques)


def test_a_grid_makes_every_combination_once():
    found = Grid(techniques=({"kind": "ties", "density": [0.1, 0.2, 0.1], "scale": [0.5, 1]},)).candidates()
    assert [(t.density, t.scale) for t in found] == [(0.1, 0.5), (0.1, 1), (0.2, 0.5), (0.2, 1)]


def test_what_is_no_list_is_not_varied():
    found = Grid(techniques=({"kind": ["ties", "magmax"], "scale": 0.3}, {"kind": "linear"})).candidates()
    assert [(t.kind, getattr(t, "scale", None)) for t in found] == [("ties", 0.3), ("magmax", 0.3), ("linear", None)]


def test_weights_of_a_grid_are_lists_of_weights():
    found = Grid(techniques=({"kind": "linear", "weights": [[0.1, 0.9], [0.5, 0.5], "exp"]},)).candidates()
    assert [t.weights for t in found] == [(0.1, 0.9), (0.5, 0.5), "exp"]


def test_nested_settings_are_drawn_too():
    lines = {"alpha": {"low": 0.1, "high": 0.2}, "beta": [0.5], "shape": "sqrt"}
    [found] = sampled(1, {"kind": "task_arithmetic", "lines": lines}).candidates(seed=1)
    assert 0.1 <= found.lines.alpha <= 0.2 and (found.lines.beta, found.lines.shape) == (0.5, "sqrt")


def test_draws_stay_in_their_range_and_spread_over_it():
    found = sampled(400, TIES).candidates(seed=3)
    assert len(found) == 400 and all(0.1 <= t.density <= 0.9 and 0.01 <= t.scale <= 1 for t in found)
    assert sum(t.density for t in found) / 400 == pytest.approx(0.5, abs=0.05)
    assert sum(math.log10(t.scale) for t in found) / 400 == pytest.approx(-1, abs=0.1)  # uniform in the logarithm


def test_a_pair_is_two_weights_that_sum_to_one():
    found = sampled(50, WEIGHTS).candidates()
    assert all(len(t.weights) == 2 and 0.2 <= t.weights[0] <= 0.6 for t in found)


def test_more_trials_only_add_and_techniques_take_turns():
    few, many = (sampled(trials, TIES, WEIGHTS).candidates(seed=7) for trials in (5, 9))
    assert many[:5] == few and [t.kind for t in few] == ["ties", "linear"] * 2 + ["ties"]


def test_another_seed_draws_others():
    search = sampled(4, TIES)
    assert search.candidates(1) == search.candidates(1) and not {*search.candidates(1)} & {*search.candidates(2)}


@pytest.mark.parametrize("raw, message", [
    ({"kind": "grid", "techniques": [{"kind": "ties", "density": [0.2, 2]}]}, "ties.density: Input should be less"),
    ({"kind": "grid", "techniques": [{"kind": "tise"}]}, "tise"),
    ({"kind": "sampled", "trials": 2, "techniques": [{"kind": "ties", "density": {"low": 0.5, "high": 1.5}}]},
     "less than or equal to 1"),
    ({"kind": "sampled", "trials": 2, "techniques": [{"kind": "ties", "sparsity": {"low": 0, "high": 1}}]}, "sparsity"),
    ({"kind": "sampled", "trials": 0, "techniques": [TIES]}, "trials"),
    ({"kind": "sampled", "trials": 2, "techniques": [{"kind": "ties", "density": {"low": 1, "high": 0.5}}]},
     "no range"),
    ({"kind": "sampled", "trials": 2, "techniques": [{"kind": "linear", "weights": ["uniform", "bogus", "exp"]}]},
     "bogus"),
    ({"kind": "sampled", "trials": 2, "techniques": [
        {"kind": "ties", "scale": [1, 2], "lines": {"alpha": [1, 2, "x", 4], "beta": 0}}]}, "alpha"),
    ({"kind": "sampled", "trials": 2, "techniques": [{"kind": "ties", "density": []}]}, "is empty"),
    ({"kind": "grid", "techniques": [{"kind": "ties", "density": []}]}, "is empty"),
])  # fmt: skip
def test_a_search_that_cannot_be_tried_is_refused_at_once(raw, message):
    with pytest.raises(ValueError, match=message):
        TypeAdapter(AnySearch).validate_python(raw)


def test_a_logarithmic_range_starts_above_zero():
    with pytest.raises(ValueError, match="low > 0 where `log` is set"):
        Range(low=0, high=1, log=True)


@pytest.mark.parametrize("technique", [Slerp(), Linear(weights=(0.5, 0.5))], ids=["slerp", "linear"])
def test_a_candidate_for_another_number_of_checkpoints_is_refused(technique):
    check_number((technique,), 2)
    with pytest.raises(ValueError, match="2"):
        check_number((technique,), 3)


@pytest.mark.parametrize("check", [lambda t: check_number([t], 2), lambda t: check_fit(MergeSpec(deploy="ema"), [t])],
                         ids=["flow", "stream"])  # fmt: skip
def test_a_candidate_that_needs_statistics_is_refused(check):
    with pytest.raises(ValueError, match="fisher needs statistics of what it merges"):
        check(Fisher())


@pytest.mark.parametrize("spec, technique, message", [
    ({"deploy": "zs"}, Linear(), "`merge.deploy` is zs, which is none"),
    ({"deploy": "ema", "technique": Linear()}, Linear(weights=(0.2, 0.3, 0.5)), "3 merge weights"),
    ({"deploy": "all", "technique": Linear()}, Linear(weights=(0.5, 0.5)), "growing number of weights"),
    ({"deploy": "all", "technique": Linear()}, Slerp(), "slerp merges 2 checkpoints, but"),
])  # fmt: skip
def test_a_candidate_that_the_recipe_could_not_deploy_is_refused(spec, technique, message):
    with pytest.raises(ValueError, match=message):
        check_fit(MergeSpec(**spec), [technique])


def test_a_merge_with_the_pretrained_weights_can_be_searched_for():
    check_fit(MergeSpec(deploy="ft", include_zs=True), [Slerp(), Linear(weights=(0.5, 0.5)), Ties()])


def test_the_default_searches_fit_what_they_are_for():
    check_number(default_search(of_pair=True).candidates(), 2)
    check_number(default_search(of_pair=False).candidates(), 7)


def test_settings_say_what_differs_from_the_defaults():
    assert settings_of(Ties(density=0.2, scale=0.5)) == {"scale": 0.5} and settings_of(Ties()) == {}
