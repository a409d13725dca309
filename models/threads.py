"""How many threads a model's operators use on a CPU; the count decides bits, so it follows from the model alone."""

import torch
from torch import nn

SMALL = 5_000_000  # parameters
DEFAULT = torch.get_num_threads()  # asked before anything sets another count, if only for a moment


def fit_to(model: nn.Module) -> None:
    """One thread for small models from now on: waiting for each other costs theirs more time than it saves.

    With 0.5 M parameters two threads gain a third on an idle machine and lose a factor of three on a busy one, where
    decoding and evaluation can use the other cores. Nothing is set back: updates and evaluations of one backbone run
    side by side, and setting back in one thread would change the other's bits.
    """
    small = sum(parameter.numel() for parameter in model.parameters()) < SMALL
    torch.set_num_threads(1 if small else DEFAULT)
