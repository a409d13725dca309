"""Training images per second and core: StepBatches against webdataset with torchvision's PIL transforms, same files.

    python benchmarks/read_images.py [--images 384] [--repeats 5]

Real photographs (crops of the two that scikit-learn carries) in a tar, about 500 px at quality 90 and about 224 px at
quality 95. Every pipeline reads all of them in random order in one process on one core, crops 0.9 to 1.0 of the area,
resizes it to 224 px and stacks batches of 128. Figures of merit are CPU time (user and system), as the median of
repeats that take turns, and the ratios between them; peak memory is what the operating system says of a process of its
own. Ours checks the SHA-256 of all it reads. uint8 is what goes to the device, float32 what a model on the CPU takes.
"""

import argparse
import hashlib
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
import webdataset
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms

from data_catalog.places import register_source
from data_catalog.reading import read_samples
from data_catalog.seeds import rng
from data_catalog.store import read_table, write_bytes, write_table
from data_catalog.stream import StepPlan
from models.batches import StepBatches, TrainingCrops
from models.clip import normalise
from models.decoding import decode, empty_batch, write_crop

SIZE, BATCH = 224, 128
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of OpenAI's CLIP
KINDS = {"500 px": (500, 375, 90), "224 px": (299, 224, 95)}  # width, height, JPEG quality
TARGETS = {"500 px": 1.5, "224 px": 1.2}
AGAINST = {"ours, uint8": "webdataset, uint8", "ours, float32": "webdataset, float32"}


class Files(NamedTuple):
    """One tar of photographs, and the plan of a step that draws each of them once."""

    tar: Path
    plan: StepPlan


def make_files(folder: Path, kind: str, images: int) -> Files:
    """Write the tar of one kind of photographs and catalogue it."""
    tar, source = folder / f"{kind.replace(' ', '')}.tar", kind.replace(" ", "")
    with tarfile.open(tar, "w") as archive:
        for number, blob in enumerate(_photographs(*KINDS[kind], images)):
            member = tarfile.TarInfo(f"{number:06}.jpg")
            member.size = len(blob)
            archive.addfile(member, io.BytesIO(blob))
    register_source(source, folder)
    return Files(tar, _plan(tar, source))


def _photographs(width: int, height: int, quality: int, images: int) -> Iterator[bytes]:
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    draws = rng(0, "photographs", width)
    for number in range(images):
        photograph = photographs[number % len(photographs)]
        left = int(draws.integers(photograph.width - width + 1))
        top = int(draws.integers(photograph.height - height + 1))
        buffer = io.BytesIO()
        photograph.crop((left, top, left + width, top + height)).save(buffer, "JPEG", quality=quality)
        yield buffer.getvalue()


def _plan(tar: Path, source: str) -> StepPlan:
    with tarfile.open(tar) as archive:
        places = [(member.offset_data, member.size) for member in archive]
    order = rng(0, "order").permutation(len(places)).tolist()
    content = tar.read_bytes()
    table = {
        "id": [f"{source}/{row}" for row in order],
        "pool": ["update"] * len(order),
        "shard": [f"{source}/{tar.name}"] * len(order),
        "offset": [places[row][0] for row in order],
        "length": [places[row][1] for row in order],
        "hash": [hashlib.sha256(content[places[row][0] :][: places[row][1]]).digest() for row in order],
        "text": ["a photo"] * len(order),
    }
    samples = {"update": len(order), "buffer": 0, "pretraining": 0}
    iterations = len(order) // BATCH
    return StepPlan(
        digest=write_table(pa.table(table)), step=0, batch_size=BATCH, iterations=iterations, samples=samples
    )


def ours(files: Files) -> Iterator[torch.Tensor]:
    batches = StepBatches(files.plan, SIZE, lambda texts: torch.zeros(len(texts), 77, dtype=torch.int64), seed=0)
    return (batches.batch(iteration).images for iteration in range(files.plan.iterations))


def ours_as_float(files: Files) -> Iterator[torch.Tensor]:
    backbone = write_bytes(json.dumps({"preprocess_cfg": {"size": SIZE, "mean": MEAN, "std": STD}}).encode())
    return (normalise(images, backbone) for images in ours(files))


def theirs(files: Files, *last: Callable) -> Iterator[torch.Tensor]:
    """webdataset with a shuffle buffer over all images, and the transform of OpenCLIP's training."""
    crop = transforms.RandomResizedCrop(SIZE, (0.9, 1.0), interpolation=transforms.InterpolationMode.BICUBIC)
    transform = transforms.Compose([crop, *last])
    shuffled = webdataset.WebDataset(str(files.tar), shardshuffle=False, empty_check=False).shuffle(1000)
    samples = shuffled.decode("pil").to_tuple("jpg").map_tuple(transform)
    return (images for (images,) in samples.batched(BATCH, partial=False))


def theirs_as_float(files: Files) -> Iterator[torch.Tensor]:
    return theirs(files, transforms.ToTensor(), transforms.Normalize(MEAN, STD))


def theirs_as_uint8(files: Files) -> Iterator[torch.Tensor]:
    return theirs(files, transforms.PILToTensor())


def reading_alone(files: Files) -> Iterator[list[bytes]]:
    rows = read_table(files.plan.digest)
    return (read_samples(rows.slice(start, BATCH)) for start in range(0, files.plan.iterations * BATCH, BATCH))


def decoding_too(files: Files) -> Iterator[int]:
    return (sum(decode(blob).shape[0] for blob in blobs) for blobs in reading_alone(files))


PIPELINES = {
    "webdataset, float32": theirs_as_float,
    "webdataset, uint8": theirs_as_uint8,
    "ours, float32": ours_as_float,
    "ours, uint8": ours,
    "ours, reading with SHA-256 alone": reading_alone,
    "ours, reading and decoding alone": decoding_too,
}


def cpu_seconds(pipeline: str, files: Files) -> float:
    """User and system time of this process for one pass."""
    start = time.process_time()
    for _ in PIPELINES[pipeline](files):
        pass
    return time.process_time() - start


def parity(files: Files) -> dict[str, float]:
    """How far our crops are from PIL's of the same boxes, in levels of 255."""
    rows = read_table(files.plan.digest)
    crops, most, total = TrainingCrops(len(rows), rng(0, "crop")), 0, 0.0
    for position, blob in enumerate(read_samples(rows)):
        image, batch = Image.open(io.BytesIO(blob)).convert("RGB"), empty_batch(1, SIZE)
        box = crops.box(position, *image.size)
        write_crop(decode(blob), box, batch[0])
        wanted = np.asarray(image.crop(box).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
        apart = np.abs(batch[0].permute(1, 2, 0).numpy().astype(int) - wanted)
        most, total = max(most, int(apart.max())), total + apart.mean()
    return {"largest_difference": most, "mean_difference": total / len(rows)}


def peak_megabytes(pipeline: str, tar: Path) -> dict[str, float]:
    """Peak resident memory of a process that makes one pass, and what it had before it began."""
    command = [sys.executable, __file__, "--only", pipeline, "--tar", str(tar)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def _one_pass(pipeline: str, tar: Path) -> None:
    register_source(tar.stem, tar.parent)
    files = Files(tar, _plan(tar, tar.stem))
    before = _peak()
    cpu_seconds(pipeline, files)
    print(json.dumps({"peak": _peak(), "before": before}))


def _peak() -> float:
    """Most resident memory of this process so far; getrusage would count what the parent had when it was forked."""
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def measure(images: int, repeats: int, folder: Path) -> dict:
    """All figures, kind of photographs by kind."""
    results = {}
    for kind in KINDS:
        files = make_files(folder, kind, images)
        for pipeline in PIPELINES:
            cpu_seconds(pipeline, files)  # so that nothing is loaded or compiled while the clock runs
        seconds = {pipeline: [] for pipeline in PIPELINES}
        for _ in range(repeats):
            for pipeline, taken in seconds.items():
                taken.append(cpu_seconds(pipeline, files))
        drawn = files.plan.iterations * BATCH
        rates = {pipeline: drawn / statistics.median(taken) for pipeline, taken in seconds.items()}
        results[kind] = {
            "bytes_per_image": files.tar.stat().st_size // images,
            "images_per_second_and_core": rates,
            "ratios": {a: rates[a] / rates[b] for a, b in AGAINST.items()},
            "target": TARGETS[kind],
            "peak_megabytes": {
                pipeline: peak_megabytes(pipeline, files.tar) for pipeline in (*AGAINST, *AGAINST.values())
            },
            **parity(files),
        }
    return results


def table(results: dict) -> str:
    lines = [
        "| files | pipeline | images/s per core | ratio | target | peak MB (before) |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in results.items():
        for pipeline, rate in found["images_per_second_and_core"].items():
            ratio, memory = found["ratios"].get(pipeline), found["peak_megabytes"].get(pipeline)
            compared = f"{ratio:.2f} | {found['target']}" if ratio else " | "
            peak = f"{memory['peak']:,.0f} ({memory['before']:,.0f})" if memory else ""
            lines.append(f"| {kind} | {pipeline} | {rate:,.0f} | {compared} | {peak} |")
    for kind, found in results.items():
        lines.append(
            f"{kind}: {found['bytes_per_image'] // 1024} KiB per image; same crop boxes as PIL: at most "
            f"{found['largest_difference']} of 255 levels apart, {found['mean_difference']:.4f} on average"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3 * BATCH)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=PIPELINES, help=argparse.SUPPRESS)
    parser.add_argument("--tar", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EVERGREEN_HOME"] = folder
        if arguments.only:
            return _one_pass(arguments.only, arguments.tar)
        results = measure(arguments.images, arguments.repeats, Path(folder))
    print(table(results))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
