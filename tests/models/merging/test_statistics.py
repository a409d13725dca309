import pytest
import torch
from torch import nn

from data_catalog.store import locate, origins
from models import clip, train
from models.batches import StepBatches
from models.checkpoints import load, save
from models.forward import embed, features_of
from models.losses import contrastive_loss
from models.merging import statistics
from models.merging.fisher import Fisher
from models.merging.linear import Linear
from models.merging.regmean import Regmean
from models.merging.statistics import StatisticsRef, collect, combined, from_memory, gram_of, what_measures
from models.merging.temporal import merge
from models.minibatch import Minibatch
from models.updates import UpdateSpec
from models.updates.ewc import Ewc
from models.updates.lora import Lora
from models.updates.si import Si
from models.weights import StoredWeights, write_safetensors

SPEC = UpdateSpec()


def stored(ref):
    return dict(StoredWeights(locate(ref.digest)))


def batches_of(tiny, step_plan, count, seed=0):
    """What the statistics see, made here one by one."""
    batches = StepBatches(step_plan, 16, clip.tokenizer(tiny.backbone), seed)
    for batch in batches.of_update_pool(count):
        yield Minibatch(clip.normalise(batch.images, tiny.backbone), batch.tokens, batch.concepts, batch.pretraining)


def test_fisher_is_the_mean_over_batches_of_the_squared_gradient(tiny, step_plan):
    found, model = stored(collect("fisher", tiny, step_plan, SPEC, samples=17, seed=0)), clip.build(tiny)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for batch in batches_of(tiny, step_plan, count=3):
        model.zero_grad()
        contrastive_loss(features_of(model, batch, "fp32"), batch.concepts, 0.0, False).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                expected[name] += parameter.grad**2 / 3
    assert found.keys() == expected.keys() and sum(f.sum() for f in found.values()) > 0
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-9)


def test_gram_is_the_mean_over_rows_of_products_of_inputs(tiny, step_plan):
    found, model = stored(collect("gram", tiny, step_plan, SPEC, samples=16, seed=0)), clip.build(tiny)
    block, rows = model.visual.transformer.resblocks[1], []
    block.mlp.c_fc.register_forward_pre_hook(lambda module, inputs: rows.append(inputs[0].flatten(0, 1)))
    with torch.no_grad():
        for batch in batches_of(tiny, step_plan, count=2):
            embed(model, batch.images, batch.tokens, "fp32")
    rows = torch.cat(rows)
    expected = torch.zeros(32, 32)
    for row in rows:
        for i in range(32):
            expected[i] += row[i] * row / len(rows)
    torch.testing.assert_close(found["visual.transformer.resblocks.1.mlp.c_fc.weight"], expected)


def test_packed_attention_has_one_gram_of_what_enters_it():
    torch.manual_seed(0)
    model, x = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, batch_first=True)}), torch.randn(3, 5, 8)
    found = gram_of(model, [x, 2 * x], lambda x: model["attn"](x, x, x))
    assert found.keys() == {"attn.in_proj_weight", "attn.out_proj.weight"}
    rows = torch.cat([x, 2 * x]).flatten(0, 1)
    torch.testing.assert_close(found["attn.in_proj_weight"], rows.T @ rows / len(rows))


def test_attention_to_other_tokens_has_no_gram_of_its_inputs():
    model = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, batch_first=True)})
    found = gram_of(model, [torch.randn(3, 5, 8)], lambda x: model["attn"](x, x[:, :2], x[:, :2]))
    assert found.keys() == {"attn.out_proj.weight"}


def test_packed_projections_of_timm_keep_their_names():
    from timm.layers.attention import Attention

    model = nn.ModuleDict({"attn": Attention(8, 2)})
    found = gram_of(model, [torch.randn(3, 5, 8)], model["attn"])
    assert found.keys() == {"attn.qkv.weight", "attn.proj.weight"}


def test_tied_weights_have_no_gram_and_the_information_of_both_names():
    model = nn.ModuleDict({"words": nn.Embedding(6, 4), "out": nn.Linear(4, 6, bias=False), "free": nn.Linear(4, 4)})
    model["out"].weight = model["words"].weight
    found = gram_of(model, [torch.tensor([1, 2])], lambda ids: model["out"](model["free"](model["words"](ids))))
    assert found.keys() == {"free.weight"}
    information = statistics._under_all_names(model, {"words.weight": torch.ones(6, 4)})
    assert information.keys() == {"words.weight", "out.weight"}


def test_a_model_whose_linears_nobody_calls_is_refused():
    with pytest.raises(ValueError, match="no Linear of the model was called"):
        gram_of(nn.Sequential(nn.ReLU()), [torch.ones(2)], nn.ReLU())


def test_parts_of_a_batch_change_nothing_but_rounding(tiny, step_plan):
    in_parts = UpdateSpec(accumulate=3)
    for kind in ("fisher", "gram"):
        whole = stored(collect(kind, tiny, step_plan, SPEC, samples=8, seed=0))
        for name, tensor in stored(collect(kind, tiny, step_plan, in_parts, samples=8, seed=0)).items():
            torch.testing.assert_close(tensor, whole[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["fisher", "gram"])
def test_statistics_are_the_same_whatever_trained_the_expert_and_say_how_they_came_to_be(tiny, step_plan, kind):
    first = collect(kind, tiny, step_plan, SPEC, samples=8, seed=0)
    other = collect(kind, tiny, step_plan, UpdateSpec(method=Lora(rank=2), lr=1), samples=8, seed=0)
    assert first == other and what_measures(UpdateSpec(lr=1)) == what_measures(SPEC)
    assert collect(kind, tiny, step_plan, SPEC, samples=9, seed=0) != first
    origin = origins(first.digest)[0]
    assert origin["made_by"] == "statistics" and origin["checkpoint"] == tiny.digest and origin["samples"] == 8
    assert set(stored(first)) <= set(load(tiny))


def test_what_ewc_keeps_is_the_information_of_its_expert(tiny, step_plan):
    expert = train.update(tiny, step_plan, UpdateSpec(method=Ewc(fisher_samples=16), lr=1e-3), seed=0)
    found = from_memory(expert.memory)
    assert found.checkpoint == expert.checkpoint and found.kind == "fisher"
    collected = stored(collect("fisher", expert.checkpoint, step_plan, SPEC, samples=16, seed=0))
    for name, tensor in stored(found).items():
        torch.testing.assert_close(tensor, collected[name], rtol=1e-4, atol=1e-9)


def test_the_memory_of_another_method_is_refused(tiny, step_plan):
    expert = train.update(tiny, step_plan, UpdateSpec(method=Si(), lr=1e-3), seed=0)
    with pytest.raises(ValueError, match=r"memory of `si` holds .*, expected fisher"):
        from_memory(expert.memory)


def _ref(kind, tensors, checkpoint, folder):
    from data_catalog.store import write_bytes

    write_safetensors(tensors, folder / "statistics.safetensors")
    digest = write_bytes((folder / "statistics.safetensors").read_bytes())
    return StatisticsRef(digest=digest, kind=kind, checkpoint=checkpoint)


@pytest.mark.parametrize("technique", [Fisher(damping=1e-30), Regmean(damping=0)])
def test_merging_one_after_the_other_is_merging_all_at_once(tiny, tmp_path, technique):
    torch.manual_seed(0)
    experts = [save({"w": torch.randn(3, 4, dtype=torch.float64)}, tiny.backbone) for _ in range(3)]
    x = [torch.randn(20, 4) for _ in experts]
    values = [torch.rand(3, 4) for _ in x] if technique.kind == "fisher" else [each.T @ each for each in x]
    known = [
        _ref(technique.USES_STATISTICS, {"w": value}, expert, tmp_path)
        for value, expert in zip(values, experts, strict=True)
    ]
    at_once = merge(experts[0], experts, technique, statistics=[each.digest for each in known])
    running, of_running = experts[0], known[0]
    for expert, own in zip(experts[1:], known[1:], strict=True):
        running = merge(experts[0], [expert, running], technique, statistics=[own.digest, of_running.digest])
        of_running = combined([own, of_running], running)
    torch.testing.assert_close(load(running)["w"], load(at_once)["w"], rtol=1e-5, atol=1e-6)


def test_combined_statistics_are_the_weighted_sum(tiny, tmp_path):
    known = [_ref("gram", {"w": torch.full((2, 2), value)}, tiny, tmp_path) for value in (1.0, 10.0)]
    assert stored(combined(known, tiny))["w"].unique().item() == 11
    assert stored(combined(known, tiny, weights=[0.5, 2]))["w"].unique().item() == 20.5
    with pytest.raises(ValueError, match="expected one each"):
        combined(known, tiny, weights=[1.0])
    with pytest.raises(ValueError, match=r"kinds \['fisher', 'gram'\]"):
        combined([known[0], known[1].model_copy(update={"kind": "fisher"})], tiny)


@pytest.mark.parametrize("technique", [Fisher(), Regmean()])
def test_experts_of_a_stream_merge_by_their_statistics(tiny, step_plan, technique):
    experts = [train.update(tiny, step_plan, UpdateSpec(lr=1e-2), seed=seed).checkpoint for seed in range(2)]
    known = [collect(technique.USES_STATISTICS, each, step_plan, SPEC, 16, seed=0).digest for each in experts]
    merged, mean = load(merge(tiny, experts, technique, statistics=known)), load(merge(tiny, experts, Linear()))
    assert any(not torch.equal(merged[name], mean[name]) for name in merged)
