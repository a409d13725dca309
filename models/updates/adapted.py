"""What all methods with adapters share: where the adapters sit, how they fold into the weights, what is kept of them.

Each step trains fresh adapters on the weights it starts from and folds them into the weights at its end, so that what
is merged, stored and evaluated is always a plain checkpoint. FoMo-in-Flux (arXiv 2408.14471) carries one set of
adapters through the whole stream instead.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from models.adapters.linear import Change, adapt, adapter_tensors, fold
from models.attention import pack_attention, unpack_attention
from models.towers import Role, blocks, linear_places, tower_of
from models.updates.method import Carried, Method, Passes

Make = Callable[[nn.Linear], Change]


class Adapted(Method):
    """Train changes of some frozen matrices, and nothing else."""

    places: tuple[Role, ...] = Field(("query", "key", "value", "mlp_second"), min_length=1)  # matrices, of every block
    towers: Literal["image", "text", "both"] = "both"  # that change
    train_logit_scale: bool = False  # temperature and bias of the loss too

    def prepare(self, model: nn.Module, seed: int) -> nn.Module:
        """`model` with its attention unpacked and changes that start at none, drawn from `seed`; only they train.

        Raises ValueError if the model has no matrix of a chosen kind.
        """
        unpack_attention(model)
        places = self.chosen(model)
        linears = [model.get_submodule(place) for place in places]
        adapt(model, places, self.maker(linears, seed), self.is_merged())
        if self.train_logit_scale:
            for name in ("logit_scale", "logit_bias"):
                if getattr(model, name, None) is not None:
                    getattr(model, name).requires_grad_(True)
        return model

    def finish(self, model: nn.Module, carried: Carried) -> Mapping[str, Tensor]:
        """The backbone's weights with the changes folded in."""
        fold(model)
        pack_attention(model)
        return model.state_dict()

    def remember(self, model: nn.Module, carried: Carried, passes: Passes) -> Mapping[str, Mapping[str, Tensor]] | None:
        """The trained tensors, for export; no later step reads them."""
        return {"adapter": adapter_tensors(model)}

    def chosen(self, model: nn.Module) -> list[str]:
        """The places of an unpacked `model` that are adapted, in its own order.

        Raises ValueError for a kind of place that neither chosen tower has, or none of the chosen blocks.
        """
        here = {role: [p for p in linear_places(model, (role,)) if self._is_chosen_tower(p)] for role in self.places}
        if missing := [role for role, names in here.items() if not names]:
            raise ValueError(f"the {self.towers} tower has no {', '.join(missing)}; leave it out of `places`")
        index = {block: (i, len(names)) for names in blocks(model).values() for i, block in enumerate(names)}
        wanted = {name for names in here.values() for name in names if self.adapts(*_block_of(name, index))}
        if not wanted:
            raise ValueError(f"no block of this model is adapted by {self.name()!r}: it has {len(index)} blocks")
        return [name for name in linear_places(model, self.places) if name in wanted]

    def adapts(self, block: int | None, blocks: int) -> bool:
        """Whether the places of the `block`-th of a tower's blocks are adapted; none: of what is in no block."""
        return True

    def maker(self, linears: list[nn.Linear], seed: int) -> Make:
        """What makes the change of one of `linears`; called with each of them in turn."""
        raise NotImplementedError

    def is_merged(self) -> bool:
        """Whether the dense weight is made in every iteration, rather than the product with its parts."""
        return True

    def _is_chosen_tower(self, place: str) -> bool:
        return self.towers in ("both", tower_of(place))


class RankAdapted(Adapted):
    """Changes of a chosen rank, computed by their parts or with the dense weight."""

    rank: int = Field(4, ge=1)  # 4 and 64 in FoMo-in-Flux
    scale: float = 1.0  # factor on the change
    compute: Literal["factored", "merged"] = "factored"  # merged: what FoMo-in-Flux counts, a fifth more compute

    def name(self) -> str:
        """How tables call the method."""
        return f"{self.kind} r={self.rank}"

    def is_merged(self) -> bool:
        """Whether the dense weight is made in every iteration."""
        return self.compute == "merged"


class InBlocks(RankAdapted):
    """Changes of a chosen rank, in all blocks or in some."""

    blocks: tuple[NonNegativeInt, ...] | None = Field(None, min_length=1)  # from the input of each tower; none: all

    def adapts(self, block: int | None, blocks: int) -> bool:
        """Whether the places of a block are adapted."""
        return self.blocks is None or block in self.blocks


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU, also where tensors are made elsewhere by default."""
    return torch.Generator("cpu").manual_seed(seed)


def _block_of(place: str, index: Mapping[str, tuple[int, int]]) -> tuple[int | None, int]:
    """Which of how many blocks `place` is in."""
    return next((at for block, at in index.items() if place.startswith(f"{block}.")), (None, 0))
