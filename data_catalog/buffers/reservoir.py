"""A buffer of fixed size: reservoir sampling over the stream (Vitter 1985, ACM TOMS 11(1), Algorithm R)."""

from typing import Literal

import numpy as np
from pydantic import Field

from data_catalog.draws import Policy, PoolRows
from data_catalog.seeds import rng


class Reservoir(Policy):
    """A uniform choice of `size` samples from all streamed before, all of them while they are fewer.

    What it holds at a step follows from what came before and the seed alone, as if it had been kept along the stream:
    a sample that was pushed out never comes back.
    """

    kind: Literal["reservoir"] = "reservoir"
    size: int = Field(ge=1)  # samples kept

    def kept(self, rows: PoolRows, seed: int) -> np.ndarray:
        seen = len(rows.step)
        slots = np.arange(min(self.size, seen))
        newcomers = np.arange(len(slots), seen)
        luck = rng(seed, "reservoir").random(seen)[len(slots) :]  # of a sample, whatever comes after it
        places = (luck * (newcomers + 1)).astype(np.int64)
        enters = places < self.size
        slots[places[enters]] = newcomers[enters]  # in order: the last to enter a slot stays
        return np.sort(slots)
