import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models.merging.engine import merge_files
from models.merging.regmean import Regmean
from models.merging.statistics import gram_of

EXACT = Regmean(alpha=1, damping=0)


@pytest.fixture
def merged(tmp_path):
    """Merges weights [out, in] by their Grams [in, in] through files."""

    def merge(technique, experts, grams):
        paths = {"expert": [], "gram": []}
        for number, tensors in enumerate(zip(experts, grams, strict=True)):
            for kind, tensor in zip(paths, tensors, strict=True):
                path = tmp_path / f"{kind}{number}.safetensors"
                save_file({"w": tensor.contiguous()}, path)
                paths[kind].append(path)
        out = tmp_path / "out.safetensors"
        merge_files(technique, paths["expert"][0], paths["expert"], out, statistics=paths["gram"])
        return load_file(out)["w"]

    return merge


def regressions(rows=(30, 30)):
    """Inputs, outputs and the least squares weights [out, in] of several sets of data."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for count in rows:
        x = torch.randn(count, 4, generator=generator, dtype=torch.float64)
        y = torch.randn(count, 3, generator=generator, dtype=torch.float64)
        found.append((x, y, torch.linalg.lstsq(x, y).solution.T))
    return found


def test_merged_regressions_are_the_regression_on_all_data(merged):
    data = regressions()
    found = merged(EXACT, [w for _, _, w in data], [x.T @ x / len(x) for x, _, _ in data])
    together = torch.linalg.lstsq(*(torch.cat(tensors) for tensors in list(zip(*data, strict=True))[:2])).solution.T
    torch.testing.assert_close(found, together)


def test_weights_count_data_of_other_sizes(merged):
    data = regressions((10, 30))
    technique = EXACT.model_copy(update={"weights": (0.25, 0.75)})
    found = merged(technique, [w for _, _, w in data], [x.T @ x / len(x) for x, _, _ in data])
    together = torch.linalg.lstsq(*(torch.cat(tensors) for tensors in list(zip(*data, strict=True))[:2])).solution.T
    torch.testing.assert_close(found, together)


def test_alpha_scales_products_of_different_inputs(merged):
    data = regressions()
    experts, grams = [w for _, _, w in data], [x.T @ x / len(x) for x, _, _ in data]
    shrunk = [0.6 * g + 0.4 * g.diagonal().diag() for g in grams]
    expected = torch.linalg.inv(sum(shrunk)) @ sum(g @ w.T for g, w in zip(shrunk, experts, strict=True))
    torch.testing.assert_close(merged(Regmean(alpha=0.6, damping=0), experts, grams), expected.T)
    diagonal = merged(Regmean(alpha=0, damping=0), experts, grams)  # each input by its own expert's use of it
    by_use = sum(g.diagonal() * w for g, w in zip(grams, experts, strict=True)) / sum(g.diagonal() for g in grams)
    torch.testing.assert_close(diagonal, by_use)


def test_what_no_input_reaches_is_the_mean(merged):
    experts, gram = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 6.0]])], torch.diag(torch.tensor([1.0, 0.0]))
    assert merged(Regmean(), experts, [gram, 0.5 * gram]).tolist() == [[pytest.approx(5 / 3, abs=1e-5), 4.0]]
    with pytest.raises(ValueError, match="inputs of 'w' do not determine its merge: raise `damping` above 0"):
        merged(Regmean(damping=0), experts, [gram, gram])


def test_one_expert_and_equal_experts_come_back(merged):
    (_, _, w), (x, _, _) = regressions()
    gram = x.T @ x
    assert torch.equal(merged(Regmean(), [w], [gram]), w)
    torch.testing.assert_close(merged(Regmean(), [w, w], [gram, torch.eye(4, dtype=gram.dtype)]), w)


def test_tensors_without_inputs_are_the_weighted_mean(tmp_path):
    for number in range(2):
        save_file({"w": torch.eye(2), "b": torch.tensor(4.0 * number)}, tmp_path / f"{number}.safetensors")
        save_file({"w": torch.eye(2)}, tmp_path / f"gram{number}.safetensors")
    experts, grams = ([tmp_path / f"{kind}{number}.safetensors" for number in range(2)] for kind in ("", "gram"))
    technique = Regmean(weights=(0.25, 0.75))
    merge_files(technique, experts[0], experts, tmp_path / "out.safetensors", statistics=grams)
    assert load_file(tmp_path / "out.safetensors")["b"].item() == 3


def test_statistics_of_another_kind_are_refused(merged):
    with pytest.raises(ValueError, match=r"'w' of shape \(3, 4\), expected \(4, 4\)"):
        merged(Regmean(), [torch.ones(3, 4)] * 2, [torch.ones(3, 4)] * 2)


def test_the_merge_of_layers_fits_their_outputs_better_than_the_mean(merged):
    torch.manual_seed(0)
    layers, inputs = [nn.Linear(4, 3) for _ in range(2)], [torch.randn(50, 4) * scale for scale in (
        torch.tensor([3.0, 1, 0.1, 1]), torch.tensor([0.1, 1, 3.0, 1]))]  # fmt: skip
    grams = [gram_of(nn.Sequential(each), [x], nn.Sequential(each))["0.weight"]
             for each, x in zip(layers, inputs, strict=True)]  # fmt: skip
    experts = [each.weight.detach() for each in layers]

    def misfit(weight):
        return sum(((x @ (weight - w).T) ** 2).mean().item() for x, w in zip(inputs, experts, strict=True))

    assert misfit(merged(EXACT, experts, grams)) < 0.5 * misfit(sum(experts) / 2)
