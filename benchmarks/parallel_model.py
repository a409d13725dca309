"""What training on many GPUs should reach: a model of one iteration, arithmetic alone, its assumptions arguments.

    python benchmarks/parallel_model.py [--utilisation 0.45] [--images 64 512]

Time of an iteration = compute + what of the gradients' average does not hide behind the backward pass (two thirds of
the compute) + features' exchange, which hides behind nothing; the data path and the optimizer are not in it. Ring
collectives: 2 (n-1)/n times the bytes for an average, (n-1)/n for an exchange, at the bandwidth of the slowest link
that the ring crosses. FLOPs, parameters and widths are those of the model itself.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))


class Machine(NamedTuple):
    """A GPU, and how it reaches others."""

    flops: float  # a second, bf16 dense
    inside: float  # bytes a second between GPUs of one machine, each way
    between: float  # between GPUs of different machines
    gpus: int  # in one machine


H200 = Machine(790e12, 450e9, 50e9, 8)  # rate measured on large matrices; NVLink 4; one 400 Gb/s adapter per GPU
MODELS = {"ViT-B-16": 512, "ViT-H-14": 1024}  # width of the features


class Iteration(NamedTuple):
    """Seconds of one iteration, and the bytes that each GPU sends."""

    compute: float
    gradients: float
    features: float
    sent: float

    @property
    def efficiency(self) -> float:
        """Against as many GPUs that need not talk."""
        return self.compute / (self.compute + max(0.0, self.gradients - self.compute * 2 / 3) + self.features)

    @property
    def without_overlap(self) -> float:
        """The same, if gradients were averaged after the backward pass."""
        return self.compute / (self.compute + self.gradients + self.features)


def iteration(flops_per_image: float, parameters: int, width: int, images: int, gpus: int, utilisation: float,
              machine: Machine = H200) -> Iteration:  # fmt: skip
    """One iteration of full finetuning at `images` pairs per GPU, gradients and features in fp32."""
    compute = images * flops_per_image / (machine.flops * utilisation)
    link = machine.inside if gpus <= machine.gpus else machine.between
    share = (gpus - 1) / gpus
    gradients, features = 2 * share * 4 * parameters, 2 * share * 4 * 2 * width * images * gpus
    logits = 2 * 3 * 2 * images * (images * gpus) * width / (machine.flops * utilisation)  # own rows against all
    return Iteration(compute + logits, gradients / link, features / link, gradients + features)


def main() -> None:
    """Print a table per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utilisation", type=float, default=0.45, help="of the GPU's peak, by the compute alone")
    parser.add_argument("--images", type=int, nargs="+", default=[64, 512], help="image-text pairs per GPU")
    options = parser.parse_args()
    for model, width in MODELS.items():
        flops, parameters = counted(model)
        print(f"\n{model}: {flops / 1e9:.1f} GFLOP an image-text pair, {parameters / 1e6:.0f} M parameters")
        print(
            "pairs per GPU   GPUs   batch    compute ms   gradients ms   features ms   GB sent   efficiency   unhidden"
        )
        for images in options.images:
            for gpus in (8, 64, 512):
                found = iteration(flops, parameters, width, images, gpus, options.utilisation)
                print(f"{images:13d}  {gpus:5d}  {images * gpus:6d}  {1e3 * found.compute:11.1f}  "
                      f"{1e3 * found.gradients:12.1f}  {1e3 * found.features:12.1f}  {found.sent / 1e9:8.2f}  "
                      f"{found.efficiency:10.2f}   {found.without_overlap:8.2f}")  # fmt: skip


def counted(model: str) -> tuple[float, int]:
    """FLOPs of one image-text pair in training, and parameters."""
    from models import clip, costs
    from models.updates import UpdateSpec

    cost = costs.price(clip.describe(model, with_tokenizer=False), UpdateSpec(), 512, 0)
    return cost.gflops * 1e9 / 512, cost.trainable_parameters


if __name__ == "__main__":
    main()
