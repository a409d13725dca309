"""Connected components: what belongs together when only pairs are known."""

import numpy as np


class Components:
    """Nodes 0..count-1 with a label each; joined nodes come to share the smallest of their labels."""

    def __init__(self, count: int):
        self.labels = np.arange(count)

    def join(self, left: np.ndarray, right: np.ndarray) -> None:
        """Join node left[i] with node right[i]; the result does not depend on the order of the pairs."""
        a, b = self.labels[left], self.labels[right]
        while (apart := a != b).any():
            a, b = a[apart], b[apart]
            np.minimum.at(self.labels, np.maximum(a, b), np.minimum(a, b))
            self._shorten()
            a, b = self.labels[a], self.labels[b]

    def together(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Whether each pair is joined already: bool [pairs]."""
        return self.labels[left] == self.labels[right]

    def _shorten(self) -> None:
        """Every label becomes the root it leads to."""
        while not np.array_equal(shorter := self.labels[self.labels], self.labels):
            self.labels = shorter
