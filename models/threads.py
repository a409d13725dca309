"""How many threads a model's operators use on a CPU; the count decides bits, so it follows from the model alone."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

SMALL = 5_000_000  # parameters


@contextlib.contextmanager
def suited_to(model: nn.Module) -> Iterator[None]:
    """One thread for small models inside the block: waiting for each other costs theirs more time than it saves.

    With 0.5 M parameters two threads gain a third on an idle machine and lose a factor of three on a busy one, where
    decoding and evaluation can use the other cores.
    """
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
