"""Subsets by the reference's rule: their sizes, that every class is in them, and that they are never cut again."""

import json
from pathlib import Path

import numpy as np
import pytest

from data_catalog import store
from data_catalog.eval_sets import LISTED, compose_chosen_set, compose_eval_set
from data_catalog.exclusions import exclude
from data_catalog.subsets import choose, compose_subset, positions_of, subset_size

REGISTRY = Path(__file__).parents[3] / "shared/reference/fomo_in_flux_datasets.json"
PUBLISHED = {
    "imagenet": 5000, "cifar10": 1000, "snake_clef": 3198, "dollarstreet": 3402, "inaturalist2021": 5000,
    "mvtecad_eval": 300, "monkeys10": 272,
}  # fmt: skip


@pytest.fixture(scope="module")
def registry():
    if not REGISTRY.is_file():
        pytest.skip("the registry of the reference is not here")
    return {row["handle"]: row for row in json.loads(REGISTRY.read_text())["datasets"]}


@pytest.mark.parametrize("handle, size", PUBLISHED.items())
def test_sizes_are_those_of_the_reference(registry, handle, size):
    row = registry[handle]
    assert subset_size(row["test_samples"], row["num_classes"]["prompt_list"], 0.1) == size


@pytest.mark.parametrize("handle, samples", [("mscoco", 5000), ("flickr30k", 1000)])
def test_a_set_whose_images_are_their_own_classes_stays_whole(registry, handle, samples):
    assert registry[handle]["test_samples"] == subset_size(samples, samples, 0.1) == samples


def test_every_class_is_equally_often_in_a_subset_and_few_are_filled_up():
    targets = np.repeat([0, 1, 2, 3], [900, 900, 900, 20])
    chosen = choose(targets, 4, 0.2, np.random.default_rng(0))
    counts = np.bincount(targets[chosen], minlength=4)
    assert len(chosen) == 544 and (np.diff(chosen) > 0).all()
    assert counts[3] == 20 and counts[:3].min() >= 136


def test_a_class_without_images_leaves_its_place_to_others():
    targets = np.repeat([0, 2], 500)
    counts = np.bincount(targets[choose(targets, 3, 0.3, np.random.default_rng(0))], minlength=3)
    assert counts.sum() == 300 and counts[1] == 0 and counts[[0, 2]].min() >= 100


@pytest.fixture
def many(datasets, monkeypatch):
    """The benchmark of three images, as if two were many enough."""
    monkeypatch.setattr("data_catalog.subsets.AT_LEAST", 2)
    monkeypatch.setattr("data_catalog.subsets.PER_CLASS", 0)
    return datasets


def test_a_subset_holds_the_images_of_the_whole_set_and_no_others(many):
    whole = compose_eval_set(many["SHAPES"])
    subset = compose_subset(many["SHAPES"], "test", 0.1, seed=0)
    part = compose_chosen_set(many["SHAPES"], "test", subset=subset)
    assert (subset.samples, subset.of, part.samples, part.name) == (2, 3, 2, whole.name)
    assert store.read_table(part.digest).equals(store.read_table(whole.digest).take(positions_of(subset)))
    assert part.texts == whole.texts  # all classes are asked for


def test_a_subset_is_the_same_list_for_a_seed_and_another_for_another(many):
    lists = {seed: [compose_subset(many["SHAPES"], "test", 0.1, seed) for _ in range(2)] for seed in range(8)}
    assert all(first == again for first, again in lists.values())
    assert len({first.digest for first, _ in lists.values()}) > 1


def test_retrieval_sets_are_not_cut(many):
    assert compose_subset(many["SCENES"], "test", 0.1, seed=0).samples == 3


def test_a_subset_of_another_dataset_is_refused(many):
    subset = compose_subset(many["SCENES"], "test", 0.1, seed=0)
    with pytest.raises(ValueError, match="a subset of split 'test' of another dataset than SHAPES"):
        compose_chosen_set(many["SHAPES"], "test", subset=subset)


def test_only_clean_images_are_left_where_that_is_asked_for(datasets):
    images = store.read_table(compose_eval_set(datasets["SHAPES"]).digest)
    leaked = exclude({images["id"][1].as_py(): "exact duplicate of x"}, "mark", "leaks")
    clean = compose_chosen_set(datasets["SHAPES"], "test", leaked, only_clean=True)
    assert store.read_table(clean.digest)["id"].to_pylist() == images["id"].take([0, 2]).to_pylist()
    with pytest.raises(ValueError, match="which images of SHAPES are clean is not known"):
        compose_chosen_set(datasets["SHAPES"], "test", only_clean=True)


def test_several_templates_make_a_list_of_prompts_per_class(datasets):
    sets = [compose_chosen_set(datasets["SHAPES"], "test", templates=given) for given in (("a {}", "{}!"), ("a {}",))]
    several, single = (json.loads(store.read_bytes(some.texts)) for some in sets)
    assert several == [["a circle", "circle!"], ["a square", "square!"], ["a star", "star!"]]
    assert single == ["a circle", "a square", "a star"] and sets[0].digest == sets[1].digest


def test_datasets_that_list_no_templates_are_prompted_by_their_own(datasets):
    listed = compose_chosen_set(datasets["SHAPES"], "test", templates=LISTED)
    assert listed == compose_eval_set(datasets["SHAPES"])
