"""What distilling methods share: how alike a teacher finds images and texts, as soft targets of the model in training.

Hinton et al. 2015, arXiv 1503.02531, section 2, on the similarities of two-tower models as in ZSCL (Zheng et al. 2023,
arXiv 2303.06628, section 3.1). Sigmoid losses have no such distribution of their own: there too it is the softmax at
the model's scale, which their bias would not change.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.minibatch import Features, Minibatch
from models.phases import TEACHER, phase
from models.updates.carried import Carried


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Cross-entropy over the columns of logits [rows, columns], in nats a row, times the squared temperature.

    The factor keeps gradients as large as at temperature 1.
    """
    target = F.softmax(teacher / temperature, dim=1)
    return F.cross_entropy(student / temperature, target) * temperature**2


def both_ways(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The soft cross-entropy of logits [images, texts] from images to texts plus that from texts to images."""
    over_texts = soft_cross_entropy(student, teacher, temperature)
    return over_texts + soft_cross_entropy(student.T, teacher.T, temperature)


def taught(carried: Carried, model: nn.Module, images: Tensor | None, tokens: Tensor | None):
    """Features of another `model`, none of whose weights train, priced as a teacher's."""
    with phase(TEACHER), torch.no_grad():
        return carried.embed(model, images, tokens)


def taught_features(carried: Carried, model: nn.Module, batch: Minibatch, features: Features) -> Features:
    """What `model` makes of a whole batch, at the scale that `features` have, which is not trained by it."""
    image, text = batch.ranks.everywhere(*taught(carried, model, batch.images, batch.tokens))
    return features._replace(image=image, text=text, scale=features.scale.detach())
