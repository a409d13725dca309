"""One measured merge in a process of its own, so that its peak memory is its own; `benchmarks/merging.py` starts these.

    python benchmarks/merging_runs.py ACTION '{"argument": value, ...}'

Prints one JSON object. Seconds are those of the merge from open files to a written file; starting Python and importing
torch are left out on every side.
"""

import json
import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

BLOCK = 8 << 20  # bytes
MODEL, PARAMETERS = "ViT-B-16", 149_620_737


def base_of(folder: Path) -> Path:
    """The weights that all experts started from."""
    return folder / "base.safetensors"


def experts_of(folder: Path, experts: int) -> list[Path]:
    """The first so many experts."""
    return [folder / f"expert-{index:03}.safetensors" for index in range(experts)]


def write(folder: str, experts: int, parameters: float) -> dict:
    """Write a base and experts near it, of the names and shapes of ViT-B/16, shrunk to about so many parameters."""
    import torch
    from safetensors.torch import save_file

    shapes, rng = _shapes(Path(folder), math.sqrt(parameters / PARAMETERS)), torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=rng) * 0.02 for name, shape in shapes.items()}
    save_file(base, base_of(Path(folder)))
    for path in experts_of(Path(folder), experts):
        save_file({name: near(tensor, rng) for name, tensor in base.items()}, path)
    return {"tensors": len(base), "parameters": sum(tensor.numel() for tensor in base.values())}


def near(tensor, rng):
    """A tensor a little way off, as if trained."""
    import torch

    return tensor + torch.randn(tensor.shape, generator=rng) * 0.001


def read(folder: str, experts: int) -> dict:
    """Read base and experts once from front to back, then write one file of that size too."""
    paths, block = [base_of(Path(folder)), *experts_of(Path(folder), experts)], bytearray(BLOCK)
    begin = time.perf_counter()
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.readinto(block):
                pass
    middle = time.perf_counter()
    output = Path(folder) / "copy"
    with open(output, "wb", buffering=0) as file:
        for _ in range(0, paths[0].stat().st_size, BLOCK):
            file.write(block)
    end = time.perf_counter()
    output.unlink()
    return {"seconds": middle - begin, "write_seconds": end - middle}


def ours(folder: str, experts: int, technique: dict, output: str) -> dict:
    """Merge with `models/merging`."""
    from models.merging.engine import merge_files

    spec = _technique(technique)
    paths = (base_of(Path(folder)), experts_of(Path(folder), experts), Path(output))
    return timed(lambda: merge_files(spec, *paths))


def stacked(folder: str, experts: int, technique: dict, output: str) -> dict:
    """Merge with everything in memory."""
    import stacked_merging

    paths = (base_of(Path(folder)), experts_of(Path(folder), experts), Path(output))
    return timed(lambda: stacked_merging.merge(technique["kind"], *paths))


def compare(folder: str, left: str, right: str) -> dict:
    """The largest difference of any entry and where it is, and the ratio of the lengths of the two task vectors.

    Tensors of one number are left out, such as the logit scale: techniques that go by angles interpolate it here.
    """
    from safetensors import safe_open

    largest, where, lengths = 0.0, "", [0.0, 0.0]
    with safe_open(base_of(Path(folder)), "pt") as base, safe_open(left, "pt") as a, safe_open(right, "pt") as b:
        for name in base.keys():  # noqa: SIM118 - no mapping
            one, other = a.get_tensor(name), b.get_tensor(name)
            if one.numel() == 1:
                continue
            if (furthest := (one - other).abs().max().item()) > largest:
                largest, where = furthest, name
            for index, tensor in enumerate((one, other)):
                lengths[index] += (tensor - base.get_tensor(name)).double().square().sum().item()
    return {"difference": largest, "where": where, "length_ratio": math.sqrt(lengths[0] / lengths[1])}


def stream(folder: str, steps: int, parameters: float, technique: dict) -> dict:
    """The seconds that `temporal.merge` takes after each step of a stream with a running merge."""
    os.environ["EVERGREEN_STORE"] = str(Path(folder) / "store")
    import torch

    from models import checkpoints, clip
    from models.merging import temporal

    shapes, rng = _shapes(Path(folder), math.sqrt(parameters / PARAMETERS)), torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=rng) * 0.02 for name, shape in shapes.items()}
    pretrained = running = checkpoints.save(weights, clip.describe(MODEL, with_tokenizer=False))
    seconds = []
    for step in range(steps):
        trained = {name: near(tensor, rng) for name, tensor in checkpoints.load(running).items()}
        expert = checkpoints.save(trained, pretrained.backbone)
        begin = time.perf_counter()
        running = temporal.merge(pretrained, [expert, running], _technique(technique), seed=step, newest=0)
        seconds.append(time.perf_counter() - begin)
    return {"first_ten": statistics.median(seconds[:10]), "last_ten": statistics.median(seconds[-10:])}


def timed(merge: Callable[[], None]) -> dict:
    """Seconds on the clock and of all cores, and the peak memory of the process so far; GB are 10^9 bytes."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    merge()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_gb": peak}


def _technique(fields: dict):
    from pydantic import TypeAdapter

    from models.merging import AnyTechnique

    return TypeAdapter(AnyTechnique).validate_python(fields)


def _shapes(folder: Path, shrink: float) -> dict[str, list[int]]:
    os.environ["EVERGREEN_STORE"] = str(folder / "store")
    from models import clip

    model = clip.build_empty(clip.describe(MODEL, with_tokenizer=False), device="meta")
    return dict(_shrunk(model, shrink))


def _shrunk(model, shrink: float) -> Iterator[tuple[str, list[int]]]:
    for name, tensor in model.state_dict().items():
        yield name, [max(1, round(length * shrink)) for length in tensor.shape]


ACTIONS = {"write": write, "read": read, "ours": ours, "stacked": stacked, "compare": compare, "stream": stream}

if __name__ == "__main__":
    print(json.dumps(ACTIONS[sys.argv[1]](**json.loads(sys.argv[2]))))
