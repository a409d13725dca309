"""LiNeS, a length of the merged task vector per layer: Wang et al. 2024, arXiv 2410.17146, section 4."""

from typing import Literal

from data_catalog.refs import Spec


class Lines(Spec):
    """From `alpha` at the first block of a tower to `alpha + beta` at its last; `alpha` outside the blocks."""

    alpha: float = 0.5  # length at the first block
    beta: float = 0.5  # what the last block has more
    shape: Literal["linear", "quadratic", "sqrt"] = "linear"  # of the growth from block to block

    def factor(self, place: tuple[str, int, int]) -> float:
        """The length for a tensor at (tower, layer, last layer): blocks are layers 1 to last - 1."""
        _, layer, last = place
        if not 1 <= layer < last:
            return self.alpha
        depth = (layer - 1) / max(1, last - 2)
        return self.alpha + self.beta * depth ** {"linear": 1.0, "quadratic": 2.0, "sqrt": 0.5}[self.shape]

    @property
    def largest(self) -> float:
        """The length of the layer that moves most."""
        return max(abs(self.alpha), abs(self.alpha + self.beta))
