"""The split of a batch over the pools, against the numbers of the benchmark (reference section 4)."""

import pytest

from data_catalog.mixture import PRESETS, Mixture, split_batch


def test_the_papers_batch_of_512():
    assert split_batch(512, Mixture(), 1) == {"pretraining": 169, "update": 175, "buffer": 168}
    assert split_batch(512, Mixture(), 0) == {"pretraining": 253, "update": 259, "buffer": 0}


def test_a_batch_of_128():
    assert split_batch(128, Mixture(), 1) == {"pretraining": 43, "update": 43, "buffer": 42}


@pytest.mark.parametrize("shares", [(0, 1, 0), (1, 0, 0), (0, 0.1, 0.9), (0.33, 0.67, 0), (0.05, 0.48, 0.47)])
@pytest.mark.parametrize("step", [0, 3])
def test_the_parts_always_fill_the_batch(shares, step):
    mixture = Mixture(pretraining=shares[0], update=shares[1], buffer=shares[2])
    for batch_size in (1, 2, 3, 7, 100, 512):
        assert sum(split_batch(batch_size, mixture, step).values()) == batch_size


def test_the_first_step_without_pretraining_takes_the_whole_buffer_share_as_update():
    assert split_batch(10, Mixture(pretraining=0, update=0.5, buffer=0.5), 0)["update"] == 10


def test_shares_must_sum_to_one():
    with pytest.raises(ValueError, match=r"mixture sums to 0\.900.*update=0\.3"):
        Mixture(pretraining=0.3, update=0.3, buffer=0.3)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_by_name_is_the_mixture_it_stands_for(name):
    pretraining, update, buffer = PRESETS[name]
    expected = Mixture(pretraining=pretraining, update=update, buffer=buffer)
    assert Mixture.model_validate(name) == Mixture.model_validate({"preset": name}) == expected


@pytest.mark.parametrize("given", ["iid", {"preset": "iidify", "update": 0.5}, {"preset": "iidify", "speed": 1}])
def test_a_wrong_preset_is_an_error(given):
    with pytest.raises(ValueError, match=r"expected one of \['paper'|Extra inputs"):
        Mixture.model_validate(given)


@pytest.mark.parametrize("shares", [(0, 0.1, 0.9), (0, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0, 1), (1, 0, 0)])
@pytest.mark.parametrize("batch_size", [1, 7, 512])
def test_zero_means_zero_if_asked(shares, batch_size):
    mixture = Mixture(pretraining=shares[0], update=shares[1], buffer=shares[2], keeps_zeros=True)
    sizes = split_batch(batch_size, mixture, 1)
    assert sum(sizes.values()) == batch_size
    assert all(sizes[pool] == 0 for pool, share in zip(sizes, shares, strict=True) if share == 0)


def test_the_benchmarks_rounding_may_give_a_sample_to_a_zero_share():
    assert split_batch(512, Mixture.model_validate("iidify"), 1) == {"pretraining": 1, "update": 51, "buffer": 460}


def test_the_first_step_keeps_zeros_too():
    mixture = Mixture(pretraining=0.5, update=0, buffer=0.5, keeps_zeros=True)
    assert split_batch(512, mixture, 0) == {"pretraining": 512, "update": 0, "buffer": 0}
