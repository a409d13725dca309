import json
import math

import pytest
import torch

from data_catalog.store import origins, read_table
from models import clip, train, training_step
from models.checkpoints import load
from models.forward import embed, features_of, parts_of, trimmed
from models.minibatch import Minibatch
from models.parallel import Ranks
from models.parameter_groups import TowerRates, parameter_groups
from models.towers import tower_of
from models.updates import UpdateSpec
from models.updates.carried import Given, Moment
from models.updates.finetune import Finetune
from models.updates.l2_sp import L2Sp


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 16, 16, generator=generator)
    tokens = torch.randint(1, 500, (8, 16), generator=generator)
    tokens[:, 0], tokens[:, 9], tokens[:, 10:] = 513, 514, 0
    return Minibatch(images, tokens, torch.tensor([0, 0, 1, 1, 2, -1, -1, 3]), 2)


def _given():
    def in_parts(model, images, tokens):
        return embed(model, images, tokens, "fp32")

    return Given(None, None, lambda most: torch.zeros(0, 16, dtype=torch.int64), in_parts, 0)


def _run(tiny, spec, double=True):
    model = clip.build(tiny).train()
    return training_step.set_up(model.double() if double else model, spec, _given())


def _step(run, batch, lr=1e-2):
    if next(run.model.parameters()).dtype == torch.float64:
        batch = batch._replace(images=batch.images.double())
    return training_step.training_step(run, batch, Moment(0, 8, lr))


def _weights(run):
    return {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}


@pytest.mark.parametrize("spec", [UpdateSpec(), UpdateSpec(patch_dropout=0.5), UpdateSpec(multi_positive=True)])
def test_a_batch_in_parts_gives_the_gradients_of_the_whole(tiny, batch, spec):
    gradients = []
    for parts in (1, 3):
        run = _run(tiny, spec.model_copy(update={"accumulate": parts}))
        torch.manual_seed(1)
        _step(run, batch)
        gradients.append(torch.cat([p.grad.flatten() for p in run.parameters]))
        drawn = torch.rand(1).item()
    if not spec.patch_dropout:
        assert torch.allclose(*gradients, atol=1e-6)
    assert gradients[1].abs().max() > 0 and 0 <= drawn < 1


def test_patches_left_out_of_a_part_are_the_same_on_both_passes(tiny, batch):
    run = _run(tiny, UpdateSpec(patch_dropout=0.5, accumulate=8))  # one image per part: nothing else is random
    seen = []
    run.model.visual.patch_dropout.register_forward_hook(lambda module, args, out: seen.append(out.detach().clone()))
    _step(run, batch)
    assert len(seen) == 16 and all(torch.equal(a, b) for a, b in zip(seen[:8], seen[8:], strict=True))


def test_checkpointing_gradients_changes_no_gradient(tiny, batch):
    runs = [_run(tiny, UpdateSpec(gradient_checkpointing=on)) for on in (False, True)]
    for run in runs:
        _step(run, batch)
    assert all(torch.allclose(a.grad, b.grad) for a, b in zip(*(run.parameters for run in runs), strict=True))
    assert runs[1].model.transformer.grad_checkpointing


def test_the_gradient_is_clipped_once_to_the_norm(tiny, batch):
    run = _run(tiny, UpdateSpec(clip_norm=1e-3))
    outcome = _step(run, batch)
    norm = torch.cat([p.grad.flatten() for p in run.parameters]).norm()
    assert outcome.gradient_norm > 1e-3 and norm == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_every_precision_learns(tiny, step_plan, precision):
    spec = UpdateSpec(lr=3e-3, precision=precision)
    losses = read_table(train.update(tiny, step_plan, spec, seed=0).curves)["loss"].to_pylist()
    assert sum(losses[-2:]) < sum(losses[:2])


@pytest.mark.parametrize("rates", [TowerRates(image=0), TowerRates(text=0), TowerRates(shared=0)])
def test_a_tower_with_rate_0_stays(tiny, batch, rates):
    run = _run(tiny, UpdateSpec(tower_lr=rates))
    before = _weights(run)
    _step(run, batch)
    (tower,) = (name for name, rate in rates if rate == 0)
    moved = {tower_of(name) for name, weight in _weights(run).items() if not weight.equal(before[name])}
    assert moved == {"image", "text", "shared"} - {tower}


def test_layers_learn_slower_towards_the_input(tiny):
    model = clip.build(tiny)
    scale = {id(p): g["scale"] for g in parameter_groups(model, TowerRates(), 0.5) for p in g["params"]}
    blocks = [scale[id(block.mlp.c_fc.weight)] for block in model.visual.transformer.resblocks]
    assert scale[id(model.visual.conv1.weight)] * 2 == blocks[0] and blocks[0] * 2 == blocks[1]
    assert scale[id(model.logit_scale)] == scale[id(model.visual.proj)] == 1


def test_the_expert_of_a_running_mean_lies_between(tiny, step_plan):
    start = load(tiny)["visual.proj"]
    moved = [
        (
            load(train.update(tiny, step_plan, UpdateSpec(lr=1e-2, ema=ema), seed=0).checkpoint)["visual.proj"] - start
        ).norm()
        for ema in (None, 0.5, 0.99)
    ]
    assert moved[0] > moved[1] > moved[2] > 0


def test_the_running_mean_is_that_of_the_weights(tiny, batch):
    run = _run(tiny, UpdateSpec(ema=0.75))
    before = run.model.visual.proj.detach().clone()
    _step(run, batch)
    assert torch.allclose(run.mean["visual.proj"], 0.75 * before + 0.25 * run.model.visual.proj.detach())


def test_weights_and_their_mean_stay_from_the_first_loss_on_that_is_not_finite(tiny, batch):
    run = _run(tiny, UpdateSpec(ema=0.5), double=False)
    _step(run, batch)
    good, mean = _weights(run), {name: tensor.clone() for name, tensor in run.mean.items()}
    _step(run, batch._replace(images=batch.images * math.nan))
    outcome = _step(run, batch)
    assert math.isfinite(outcome.loss) and all(weight.equal(good[name]) for name, weight in _weights(run).items())
    assert all(tensor.equal(mean[name]) for name, tensor in run.mean.items())
    assert not mean["visual.proj"].equal(good["visual.proj"])


def test_gradients_after_the_training_are_those_of_the_contrastive_loss_alone(tiny, batch):
    found = []
    for more in ({}, {"accumulate": 3}, {"method": L2Sp(anchor="step_start", alpha=10.0)}, {"precision": "fp16"}):
        run = _run(tiny, UpdateSpec(**more), double=False)
        torch.nn.init.ones_(run.model.visual.ln_post.bias)  # away from the anchor
        before = _weights(run)
        found.append(training_step.contrastive_gradients(run, batch))
        assert all(weight.equal(before[name]) and weight.grad is None for name, weight in _weights(run).items())
        assert found[-1].keys() == before.keys()
    plain, *others = (torch.cat([tensor.flatten() for tensor in each.values()]) for each in found)
    assert plain.norm() > 0 and torch.allclose(plain, others[0], atol=1e-6) and torch.equal(plain, others[1])
    assert (plain - others[2]).norm() < 0.05 * plain.norm()


def test_a_scale_too_large_for_gradients_after_the_training_is_lowered(tiny, batch):
    run = _run(tiny, UpdateSpec(precision="fp16"), double=False)
    run.scaler.scale(torch.ones(()))  # makes its tensors
    run.scaler.update(2.0**40)
    found = training_step.contrastive_gradients(run, batch)
    assert all(torch.isfinite(tensor).all() for tensor in found.values()) and run.scaler.get_scale() < 2.0**40


def test_a_step_may_end_with_the_last_good_weights(tiny, step_plan):
    spec = UpdateSpec(lr=1e30, on_non_finite="stop")
    expert = train.update(tiny, step_plan, spec, seed=0)
    assert 1 <= expert.iterations < 8 == step_plan.iterations
    assert read_table(expert.curves).num_rows == expert.iterations
    assert origins(expert.checkpoint.digest)[0]["ended_early_after"] == expert.iterations
    assert all(torch.isfinite(tensor).all() for tensor in load(expert.checkpoint).values())


def test_text_is_cut_to_the_longest_without_changing_features(tiny, batch):
    model, short = clip.build(tiny), trimmed(batch.tokens)
    assert short.shape[1] == 10 and trimmed(batch.tokens, 16).shape[1] == 16
    with torch.no_grad():
        assert torch.allclose(
            embed(model, None, short, "fp32")[1], embed(model, None, batch.tokens, "fp32")[1], atol=1e-6
        )


def test_a_word_with_the_number_of_the_padding_is_not_cut(batch):
    tokens = torch.tensor([[513, 0, 0, 514, 0, 0]])
    assert trimmed(tokens).tolist() == [[513, 0, 0, 514]]


@pytest.mark.parametrize("apart", [False, True])
def test_compiling_is_asked_of_both_towers(tiny_folder, monkeypatch, apart):
    config = json.loads((tiny_folder / clip.CONFIG_FILE).read_text())
    config["model_cfg"]["custom_text"] = apart
    (tiny_folder / clip.CONFIG_FILE).write_text(json.dumps(config))
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: compiled.append(type(module).__name__))
    _run(clip.initialise(str(tiny_folder), seed=0), UpdateSpec(compile=True))
    assert compiled == ["VisionTransformer", "Transformer"]


def test_a_method_that_trains_nothing_is_refused(tiny):
    class Nothing(Finetune):
        def prepare(self, model, seed):
            return model.requires_grad_(False)

    with pytest.raises(ValueError, match="leaves no parameter"):
        run = UpdateSpec().model_copy(update={"method": Nothing()})
        training_step.set_up(run.method.prepare(clip.build(tiny), 0), run, _given())


def test_a_batch_knows_its_pools(batch):
    assert batch.streamed_rows == slice(0, 6) and batch.pretraining_rows == slice(6, 8)
    assert [batch._replace(ranks=Ranks(r, 4)).own(batch.pretraining_rows) for r in (0, 2, 3)] == [
        slice(6, 2),
        slice(2, 2),
        slice(0, 2),
    ]  # fmt: skip  of two rows each, the last process has both


@pytest.mark.parametrize(("rows", "parts"), [(8, 3), (8, 1), (5, 5)])
def test_parts_cover_the_batch_once(rows, parts):
    covered = [row for part in parts_of(rows, parts) for row in range(rows)[part]]
    assert covered == list(range(rows))


def test_features_are_normalised(tiny, batch):
    features = features_of(clip.build(tiny), batch, "bf16")
    assert features.image.dtype == torch.float32 and features.bias is None
    assert torch.allclose(features.text.norm(dim=1), torch.ones(8), atol=1e-5)
