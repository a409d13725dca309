import pytest
import torch
from safetensors.torch import load_file, save_file

from models.merging.engine import merge_files
from models.merging.fisher import Fisher


@pytest.fixture
def merged(tmp_path):
    """Merges experts by information, both given as lists of tensors by name, through files."""

    def merge(technique, experts, information):
        names = {}
        for kind, each in (("expert", experts), ("information", information)):
            names[kind] = [tmp_path / f"{kind}{number}.safetensors" for number in range(len(each))]
            for path, tensors in zip(names[kind], each, strict=True):
                save_file(tensors, path)
        out = tmp_path / "out.safetensors"
        merge_files(technique, names["expert"][0], names["expert"], out, statistics=names["information"])
        return load_file(out)

    return merge


def randoms(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [{"w": torch.randn(6, 5, generator=generator, dtype=torch.float64)} for _ in range(count)]


def test_each_expert_gets_the_weights_that_only_it_needs(merged):
    experts = [{"w": torch.tensor([1.0, 2.0, 3.0])}, {"w": torch.tensor([5.0, 6.0, 8.0])}]
    information = [{"w": torch.tensor([1.0, 0.0, 0.0])}, {"w": torch.tensor([0.0, 1.0, 0.0])}]
    assert merged(Fisher(), experts, information)["w"].tolist() == pytest.approx([1, 6, 5.5])


def test_every_weight_is_the_mean_by_information_and_by_weight(merged):
    experts, information = randoms(3), [{"w": f["w"] ** 2} for f in randoms(3, seed=1)]
    found = merged(Fisher(weights=(0.5, 0.3, 0.2)), experts, information)["w"]
    for row in range(6):
        for column in range(5):
            trust = [s * f["w"][row, column] for s, f in zip((0.5, 0.3, 0.2), information, strict=True)]
            expected = sum(t * e["w"][row, column] for t, e in zip(trust, experts, strict=True)) / sum(trust)
            assert found[row, column].item() == pytest.approx(expected.item(), abs=1e-6)


def test_equal_information_is_the_plain_mean_and_order_does_not_matter(merged):
    experts, information = randoms(2), [{"w": torch.full((6, 5), 0.3)}] * 2
    mean = (experts[0]["w"] + experts[1]["w"]) / 2
    torch.testing.assert_close(merged(Fisher(), experts, information)["w"], mean)
    others = [{"w": f["w"] ** 2} for f in randoms(2, seed=1)]
    there, back = merged(Fisher(), experts, others), merged(Fisher(), experts[::-1], others[::-1])
    torch.testing.assert_close(there["w"], back["w"])


def test_damping_draws_what_is_little_needed_to_the_mean(merged):
    experts, information = [{"w": torch.zeros(1)}, {"w": torch.ones(1)}], [{"w": torch.zeros(1)}, {"w": torch.ones(1)}]
    faint = [{"w": each["w"] * 1e-6} for each in information]
    assert merged(Fisher(), experts, faint)["w"].item() == pytest.approx(1, abs=1e-5)
    assert merged(Fisher(damping=1e-3), experts, faint)["w"].item() == pytest.approx(0.5, abs=1e-3)


def test_one_expert_and_tensors_without_information_come_back(merged):
    expert = {"w": torch.randn(4), "mean": torch.tensor(2.0)}
    assert torch.equal(merged(Fisher(), [expert], [{"w": torch.rand(4)}])["w"], expert["w"])
    other = {"w": torch.randn(4), "mean": torch.tensor(4.0)}
    assert merged(Fisher(), [expert, other], [{"w": torch.rand(4)}] * 2)["mean"].item() == 3


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_information_that_is_none_is_refused(merged, bad):
    with pytest.raises(ValueError, match="Fisher information of 'w'"):
        merged(Fisher(), randoms(2), [{"w": torch.full((6, 5), bad)}] * 2)


def test_missing_and_foreign_statistics_are_refused(merged):
    with pytest.raises(ValueError, match=r"needs the fisher statistics of each of 2 experts, found 1"):
        merged(Fisher(), randoms(2), [{"w": torch.ones(6, 5)}])
    with pytest.raises(ValueError, match=r"expert 1 have 'w' of shape \(5, 5\), expected \(6, 5\)"):
        merged(Fisher(), randoms(2), [{"w": torch.ones(6, 5)}, {"w": torch.ones(5, 5)}])
    with pytest.raises(ValueError, match=r"experts 0 and 1 are not of the same tensors: v, w are in one of them only"):
        merged(Fisher(), randoms(2), [{"w": torch.ones(6, 5)}, {"v": torch.ones(6, 5)}])
