"""What is in shards is cut but for numbers, whole again when it is stored, and back in place when it is restored."""

import pytest
import torch
import torch.distributed as dist

from models import clip
from models.forward import embed_by
from models.sharding import clip as clip_norm
from models.sharding import is_cut, restore_model, restore_optimizer, shard, whole


@pytest.fixture
def group(tmp_path):
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def models(group, tiny):
    """A model, and its twin in shards."""
    return clip.build(tiny), shard(clip.build(tiny))


IMAGES, TOKENS = torch.rand(4, 3, 16, 16), torch.tensor([[512, 3 + i, 514, *[0] * 13] for i in range(4)])


def test_all_but_numbers_is_cut_and_stored_whole(models):
    plain, cut = models
    assert {name for name, weight in cut.named_parameters() if not is_cut(weight)} == {"logit_scale"}
    stored = whole(cut.state_dict())
    assert not any(map(is_cut, stored.values()))
    assert all(torch.equal(stored[name], weight) for name, weight in plain.state_dict().items())


def test_it_embeds_and_clips_as_a_whole_model(models):
    norms, embedded = [], []
    for model, clipped in zip(models, (torch.nn.utils.clip_grad_norm_, clip_norm), strict=True):
        image, text = embed_by(model, IMAGES, TOKENS, "fp32")
        (image @ text.T * model.logit_scale).sum().backward()
        embedded.append((image.detach(), text.detach()))
        norms.append(clipped(list(model.parameters()), 0.1))
    plain, cut = models
    torch.testing.assert_close(*embedded)
    torch.testing.assert_close(norms[0], norms[1])
    for mine, theirs in zip(plain.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, whole(theirs.grad))


def test_moments_of_a_whole_model_go_on_in_shards(models):
    plain, cut = models
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.1, fused=True) for model in models]
    for weight in plain.parameters():
        weight.grad = torch.ones_like(weight)
    optimizers[0].step()
    restore_model(cut, plain.state_dict())
    restore_optimizer(optimizers[1], optimizers[0].state_dict())
    for before, after in zip(optimizers[0].state.values(), optimizers[1].state.values(), strict=True):
        torch.testing.assert_close(dict(before), whole(dict(after)))
    assert any(is_cut(moment) for state in optimizers[1].state.values() for moment in state.values())
