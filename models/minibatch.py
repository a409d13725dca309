"""What one iteration computes on and what comes out of the towers; shared by the loop, the methods and the budget."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from models.parallel import ALONE, Ranks


class Features(NamedTuple):
    """Embeddings of one batch, in fp32, row i of `image` belonging to row i of `text`."""

    image: Tensor  # L2-normalised [batch, dim]
    text: Tensor  # L2-normalised [batch, dim]
    scale: Tensor  # exponentiated inverse temperature
    bias: Tensor | None = None  # of the sigmoid loss; none: softmax

    def rows(self, chosen: slice) -> "Features":
        """The embeddings of some rows."""
        return self._replace(image=self.image[chosen], text=self.text[chosen])


class Minibatch(NamedTuple):
    """One iteration's samples on the device, rows in the order update, buffer, pretraining.

    Of several processes each has the images and texts of its own rows; what is made of them is put together again.
    """

    images: Tensor  # normalised [own, 3, size, size]
    tokens: Tensor  # int64 [own, context]
    concepts: Tensor  # int64 [batch]: equal numbers are one class, negative ones are none
    pretraining: int  # how many rows of the batch, the last ones, come from the pretraining pool
    ranks: Ranks = ALONE

    @property
    def streamed_rows(self) -> slice:
        """The rows of the update and the buffer pool."""
        return slice(0, len(self.concepts) - self.pretraining)

    @property
    def pretraining_rows(self) -> slice:
        """The rows of the pretraining pool."""
        return slice(len(self.concepts) - self.pretraining, len(self.concepts))

    def own(self, chosen: slice) -> slice:
        """Where in the images and texts of this process those of its rows lie that are among the `chosen` ones."""
        here = self.ranks.rows(len(self.concepts))
        return slice(max(0, chosen.start - here.start), max(0, min(chosen.stop, here.stop) - here.start))


Contrast = Callable[[Features, Tensor], Tensor]  # the contrastive loss of features and the concepts of their rows
