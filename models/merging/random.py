"""Each weight from one expert, drawn at random: the control among the techniques of TIME, arXiv 2412.06712."""

from typing import ClassVar, Literal

from torch import Tensor

from models.merging.parts import Part
from models.merging.random_bits import random_bits
from models.merging.technique import Found, TaskVectorTechnique


class Random(TaskVectorTechnique):
    """Draw for every weight whose task vector it takes."""

    kind: Literal["random"] = "random"
    USES_RANDOM: ClassVar[bool] = True

    def combine(self, part: Part, found: Found) -> Tensor:
        """The base and the drawn entries; all experts are as likely."""
        vectors = self.stacked(part, found)
        name = found.drawn_as.get(part.name, part.name)
        bits = random_bits(found.seed, name, 0, part.start, vectors.shape[1]).to(vectors.device)
        chosen = (bits.long() * len(vectors)) >> 31
        return self.onto(part, vectors.gather(0, chosen[None])[0], found)
