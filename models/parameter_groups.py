"""Learning rates of single parameters: per tower, and lower towards the input (layer-wise decay)."""

from pydantic import Field
from torch import nn

from data_catalog.refs import Spec
from models.towers import depth_of, tower_of


class TowerRates(Spec):
    """Factors on the learning rate of each tower; the temperature takes that of neither."""

    image: float = Field(1.0, ge=0)  # of the image tower
    text: float = Field(1.0, ge=0)  # of the text tower
    shared: float = Field(1.0, ge=0)  # logit scale and bias


def parameter_groups(model: nn.Module, rates: TowerRates, layer_decay: float) -> list[dict]:
    """The parameters that train, grouped by the factor on their learning rate: `params` and `scale`.

    `layer_decay`: factor per layer from the output to the input (Clark et al. 2020, arXiv 2003.10555, appendix A).
    """
    depths = depth_of(model) if layer_decay != 1 else {}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer, last = depths.get(name, (0, 0))
            scale = getattr(rates, tower_of(name)) * layer_decay ** (last - layer)
            groups.setdefault(scale, []).append(parameter)
    return [{"params": parameters, "scale": scale} for scale, parameters in groups.items()]
