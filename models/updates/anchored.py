"""What the methods share that hold the weights near an anchor: which weights that is."""

from typing import Literal

from torch import Tensor

from models.updates.method import Given, Method


class Anchored(Method):
    """A method with an anchor, which is either the pretrained weights or those the step starts from."""

    anchor: Literal["pretrained", "step_start"] = "pretrained"  # what the weights are held to

    @property
    def USES(self) -> frozenset[str]:
        """The pretrained weights only where they are the anchor."""
        return frozenset({"pretrained"} if self.anchor == "pretrained" else ())

    def name(self) -> str:
        """How tables call the method."""
        return self.kind if self.anchor == "pretrained" else f"{self.kind} {self.anchor}"

    def anchored(self, given: Given) -> dict[str, Tensor] | None:
        """The anchor under the names of the backbone; none where it is what the step starts from."""
        if self.anchor == "step_start":
            return None
        if given.pretrained is None:
            raise ValueError(f"the method {self.name()!r} needs the pretrained weights; give `pretrained`")
        return dict(given.pretrained.state_dict())
