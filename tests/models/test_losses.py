import math

import open_clip.loss
import torch
import torch.nn.functional as F

from models.losses import clip_loss, siglip_loss


def _pair(seed=0):
    draws = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(seed))
    return F.normalize(draws, dim=-1)


def test_clip_loss_equals_open_clips():
    images, texts = _pair()
    scale = torch.tensor(10.0)
    torch.testing.assert_close(clip_loss(images, texts, scale), open_clip.loss.ClipLoss()(images, texts, scale))


def test_siglip_loss_equals_open_clips():
    images, texts = _pair()
    scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
    torch.testing.assert_close(
        siglip_loss(images, texts, scale, bias), open_clip.loss.SigLipLoss()(images, texts, scale, bias)
    )


def test_indistinguishable_pairs_cost_the_log_of_the_batch():
    same = F.normalize(torch.ones(4, 8), dim=-1)
    assert math.isclose(clip_loss(same, same, torch.tensor(50.0)).item(), math.log(4), rel_tol=1e-5)
