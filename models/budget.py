"""Compute as an input: what a whole stream may cost, and the iterations per step that it buys.

FoMo-in-Flux, arXiv 2408.14471, section 3.2. MAF = GFLOPs of one iteration x peak memory relative to full finetuning.
"""

import math
from typing import Annotated, Literal

from pydantic import Field

from data_catalog.refs import Spec
from models.costs import cost, price
from models.hardware import Device, gflops_in
from models.prices import StepCost

__all__ = ["AnyBudget", "GpuHours", "Iterations", "Mafs", "StepCost", "cost", "iterations_for", "price"]

PAPER_TOTAL_MAFS = 1.8e9  # GFLOPs, the whole stream, in FoMo-in-Flux with ViT-B/16


class Iterations(Spec):
    """A number of iterations per step, given directly."""

    kind: Literal["iterations"] = "iterations"
    per_step: int = Field(ge=1)  # of every method, whatever it costs

    def iterations(self, cost: StepCost, steps: int) -> int:
        """The given number, whatever it costs."""
        return self.per_step

    def share(self, cost: StepCost, steps: int) -> float:
        """MAFs of each of `steps` steps: what the given iterations cost."""
        return cost.step_mafs(self.per_step)


class Mafs(Spec):
    """Memory-adjusted GFLOPs for the whole stream, shared equally by its steps."""

    kind: Literal["mafs"] = "mafs"
    total: float = Field(PAPER_TOTAL_MAFS, gt=0)  # GFLOPs times relative memory, for the whole stream
    charged: Literal["as_run", "paper"] = "as_run"  # paper: printed memory, late passes with every iteration

    def iterations(self, cost: StepCost, steps: int) -> int:
        """As many as a step's share buys beside what is paid once per step; raises ValueError if that is none."""
        return iterations_for(self.total, cost.mafs, steps, cost.once_mafs)

    def share(self, cost: StepCost, steps: int) -> float:
        """MAFs of each of `steps` steps."""
        return self.total / steps

    def spoken(self) -> str:
        """In words, for titles."""
        return f"{self.total:.4g} MAFs"


class GpuHours(Spec):
    """Hours of one device for the whole stream: plain FLOPs at a share of its peak, without the factor for memory."""

    kind: Literal["gpu_hours"] = "gpu_hours"
    hours: float = Field(gt=0)  # for the whole stream, of all devices together
    device: Device  # whose peak is meant
    utilisation: float = Field(0.4, gt=0, le=1)  # of the dense bf16 peak, while training

    def iterations(self, cost: StepCost, steps: int) -> int:
        """As many as a step's share of the hours computes; raises ValueError if that is none."""
        total = gflops_in(self.hours, self.device, self.utilisation)
        return iterations_for(total, cost.gflops, steps, cost.once_gflops, unit="GFLOPs")

    def share(self, cost: StepCost, steps: int) -> float:
        """MAFs of each of `steps` steps: its GFLOPs at the method's multiplier."""
        return gflops_in(self.hours, self.device, self.utilisation) / steps * cost.memory_multiplier

    def spoken(self) -> str:
        """In words, for titles."""
        return f"{self.hours:g} hours of {self.device} at {self.utilisation:g} of its peak"


AnyBudget = Annotated[GpuHours | Iterations | Mafs, Field(discriminator="kind")]


def iterations_for(total: float, per_iteration: float, steps: int, once: float = 0.0, unit: str = "MAFs") -> int:
    """round_half_up((total / steps - once) / per iteration), the rule that reproduces the paper's tables.

    `once`: what each step costs beside its iterations. Raises ValueError when that is not at least one iteration.
    """
    iterations = math.floor((total / steps - once) / per_iteration + 0.5)
    if iterations < 1:
        beside = f" and {once:.4g} once per step" if once else ""
        raise ValueError(
            f"a budget of {total:.4g} {unit} buys no iteration in each of {steps} steps at "
            f"{per_iteration:.4g} {unit} an iteration{beside}; give a larger budget or fewer steps"
        )
    return iterations
