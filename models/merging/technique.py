"""What every merging technique is: weights in, weights out, nothing remembered."""

from collections.abc import Sequence

from data_catalog.refs import Spec
from models.weights import Weights


class Technique(Spec):
    """A way to combine experts around the weights they all started from."""

    def merge(self, base: Weights, experts: Sequence[Weights]) -> Weights:
        """One set of weights out of `experts`; `base` is the origin of task vectors. No argument is changed."""
        raise NotImplementedError
