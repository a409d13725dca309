"""How long evaluation takes and how much memory, against research code; and what merge candidates cost together.

    python benchmarks/evaluation.py [--sets 60] [--images 60000] [--repeats 3] [--folder DIR]
        [--output docs/evaluation/speed.md]

Writes real photographs (crops of the two that scikit-learn carries) as JPEGs into a tar per dataset and measures each
way in a process of its own, where importing packages and opening the store is not counted:

- sets: one checkpoint over many classification sets of 50 to 2,500 classes, 64 to 224 px, ours and the reference's way;
- large: one set of 2,500 classes and 100,000 images, for the peak memory of the process;
- candidates: eight checkpoints on photographs of 500 px with a tiny model of 224 px, one by one and together;
- next checkpoint: one more of them, with and without decoded images kept on disk.
"""

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from findings import replace_part
from sklearn.datasets import load_sample_images

from data_catalog import places, store
from data_catalog.seeds import rng

CLASSES, SIDES = (50, 2500), (64, 225)
LARGE = {"classes": 2500, "images": 100_000, "sides": (64, 97)}
CANDIDATES = {"classes": 100, "images": 1500, "sides": (480, 520)}
TARGETS = {"sets": 3.0, "large": 2.0, "candidates": 0.45}  # at least, GB at most, at most
WORDS = ("red", "old", "small", "bright", "wooden", "royal", "spotted", "northern", "common", "great")


def make(folder: Path, name: str, classes: int, images: int, sides: tuple[int, int]) -> None:
    """Write a tar of photographs, and beside it what its images are of."""
    draws, hashes = rng(0, name), []
    photographs = load_sample_images().images
    with tarfile.open(folder / f"{name}.tar", "w") as tar:
        for number in range(images):
            blob = simplejpeg.encode_jpeg(_crop(photographs[number % 2], draws, sides), quality=90)
            member = tarfile.TarInfo(f"{number:06}.jpg")
            member.size = len(blob)
            tar.addfile(member, BytesIO(blob))
            hashes.append(hashlib.sha256(blob).hexdigest())
    with tarfile.open(folder / f"{name}.tar") as tar:
        entries = [(member.offset_data, member.size, hash) for member, hash in zip(tar, hashes, strict=True)]
    targets = draws.integers(classes, size=images).tolist()
    prompts = [f"a photo of a {WORDS[i % 10]} {name} {WORDS[i // 10 % 10]} {i // 100}." for i in range(classes)]
    facts = {"name": name, "entries": entries, "targets": targets, "prompts": prompts}
    (folder / f"{name}.json").write_text(json.dumps(facts))


def _crop(photograph: np.ndarray, draws: np.random.Generator, sides: tuple[int, int]) -> np.ndarray:
    height, width = (
        min(int(side), most) for side, most in zip(draws.integers(*sides, 2), photograph.shape, strict=False)
    )
    top, left = draws.integers(photograph.shape[0] - height + 1), draws.integers(photograph.shape[1] - width + 1)
    return np.ascontiguousarray(photograph[top : top + height, left : left + width])


def facts_of(folder: Path, which: str) -> list[dict[str, Any]]:
    """What is known of all sets of one kind."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{which}*.json"))]


def eval_sets(folder: Path, which: str) -> list:
    """The sets as ours takes them."""
    import pyarrow as pa

    from data_catalog.eval_sets import EvalSet

    places.register_source(which, folder)
    sets = []
    for facts in facts_of(folder, which):
        offset, length, hashes = zip(*facts["entries"], strict=True)
        table = pa.table({
            "target": pa.array(facts["targets"], pa.int32()), "shard": [f"{which}/{facts['name']}.tar"] * len(offset),
            "offset": offset, "length": length, "hash": pa.array([bytes.fromhex(one) for one in hashes], pa.binary(32)),
        })  # fmt: skip
        texts = store.write_bytes(json.dumps(facts["prompts"]).encode())
        images = store.write_table(table)
        sets.append(EvalSet(digest=images, name=facts["name"], kind="classification", texts=texts, samples=len(offset)))
    return sets


def checkpoint(size: int, patch: int, seed: int = 0):
    """A tiny CLIP of three layers with the usual texts of 77 positions."""
    from models import clip

    vision = {"image_size": size, "patch_size": patch, "width": 64, "layers": 3, "head_width": 32}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 3}
    config = {"model_cfg": {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": {"size": size}}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / clip.CONFIG_FILE).write_text(json.dumps(config))
        return clip.initialise(folder, seed)


def ours(folder: Path, which: str) -> dict[str, Any]:
    """One checkpoint, our way."""
    from models.evaluation import scoring

    sets, weights = eval_sets(folder, which), checkpoint(64, 16)
    return _timed(lambda: _accuracies(scoring.evaluate(weights, sets)))


def reference(folder: Path, which: str) -> dict[str, Any]:
    """One checkpoint, as research code does it."""
    import open_clip
    import reference_evaluation

    from models import clip

    sets = [
        reference_evaluation.Classes(facts["name"], str(folder / f"{facts['name']}.tar"),
                                     [entry[:2] for entry in facts["entries"]], facts["targets"], facts["prompts"])
        for facts in facts_of(folder, which)
    ]  # fmt: skip
    weights = checkpoint(64, 16)

    def run() -> dict[str, float]:
        transform = open_clip.image_transform(64, is_train=False)
        found = reference_evaluation.evaluate(clip.build(weights), clip.tokenizer(weights.backbone), transform, sets)
        return {name: top1 for name, (top1, _) in found.items()}

    return _timed(run)


def together(folder: Path, which: str) -> dict[str, Any]:
    """Eight checkpoints over one decoding."""
    from models.evaluation import scoring

    sets, weights = eval_sets(folder, which), [checkpoint(224, 32, seed) for seed in range(8)]
    return _timed(lambda: [report.model_dump() for report in scoring.evaluate_many(weights, sets)])


def one_by_one(folder: Path, which: str) -> dict[str, Any]:
    """Eight checkpoints, each on its own."""
    from models.evaluation import scoring

    sets, weights = eval_sets(folder, which), [checkpoint(224, 32, seed) for seed in range(8)]
    return _timed(lambda: [scoring.evaluate(some, sets).model_dump() for some in weights])


def decoding(folder: Path, which: str) -> dict[str, Any]:
    """One checkpoint at 224 px."""
    from models.evaluation import scoring

    sets, weights = eval_sets(folder, which), checkpoint(224, 32, 1)
    return _timed(lambda: _accuracies(scoring.evaluate(weights, sets)))


def from_cache(folder: Path, which: str) -> dict[str, Any]:
    """The same after another checkpoint, where decoded images are kept."""
    from models.evaluation import scoring

    os.environ["EVERGREEN_DECODED"] = str(places.home() / "decoded")
    scoring.evaluate(checkpoint(224, 32, 0), eval_sets(folder, which))
    return decoding(folder, which)


WAYS = {"ours": ours, "reference": reference, "together": together, "one_by_one": one_by_one,
        "decoding": decoding, "from_cache": from_cache}  # fmt: skip


def _accuracies(report) -> dict[str, float]:
    from models.evaluation.scores import primary

    return primary(report)


def _timed(run) -> dict[str, Any]:
    start, before = time.perf_counter(), _cpu_seconds()
    answer = run()
    taken = {"seconds": time.perf_counter() - start, "cpu_seconds": _cpu_seconds() - before}
    return taken | {"peak_gb": _peak_gb(), "answer": answer}


def _cpu_seconds() -> float:
    """User and system time of this process and of the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_gb() -> float:
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024 / 1e9


def measured(folder: Path, which: str, way: str) -> dict[str, Any]:
    """One way in a process and a store of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, "--only", way, "--which", which, "--folder", str(folder)]
        answer = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"EVERGREEN_HOME": home}
        )
    return json.loads(answer.stdout)


def medians(folder: Path, which: str, ways: tuple[str, str], repeats: int) -> dict[str, dict[str, Any]]:
    """Median seconds of two ways that take turns, and what each answered."""
    runs = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            runs[way].append(measured(folder, which, way))
    return {
        way: {key: statistics.median(run[key] for run in some) for key in ("seconds", "cpu_seconds", "peak_gb")}
        | {"answer": some[0]["answer"]}
        for way, some in runs.items()
    }


def measure(folder: Path, sets: int, images: int, repeats: int) -> Iterator[dict[str, Any]]:
    """A row per measurement."""
    classes = np.geomspace(*CLASSES, sets).round().astype(int).tolist()
    for number, count in enumerate(classes):
        make(folder, f"sets{number:02}", count, images // sets, SIDES)
    found = medians(folder, "sets", ("reference", "ours"), repeats)
    apart = max(abs(found["ours"]["answer"][name] - top1) for name, top1 in found["reference"]["answer"].items())
    yield from _rows("sets", found, {"largest_difference": apart})
    make(folder, "large", **LARGE)
    yield from _rows("large", {way: measured(folder, "large", way) for way in ("reference", "ours")}, {})
    make(folder, "candidates", **CANDIDATES)
    found = medians(folder, "candidates", ("one_by_one", "together"), repeats)
    same = found["one_by_one"]["answer"] == found["together"]["answer"]
    yield from _rows("candidates", found, {"is_equal": same})
    yield from _rows("next checkpoint", medians(folder, "candidates", ("decoding", "from_cache"), repeats), {})


def _rows(which: str, found: dict[str, dict[str, Any]], facts: dict[str, Any]) -> Iterator[dict[str, Any]]:
    first = next(iter(found.values()))
    for way, row in found.items():
        ratios = {f"x_{key}": row[key] / first[key] for key in ("seconds", "cpu_seconds")}
        yield {"what": which, "way": way} | {key: row[key] for key in row if key != "answer"} | ratios | facts


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| what | way | seconds | CPU seconds | x seconds | x CPU seconds | peak GB |",
             "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row['what']} | {row['way'].replace('_', ' ')} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} "
            f"| {row['x_seconds']:.2f} | {row['x_cpu_seconds']:.2f} | {row['peak_gb']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--which", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        return print(json.dumps(WAYS[arguments.only](arguments.folder, arguments.which)))
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        rows = [*measure(folder, arguments.sets, arguments.images, arguments.repeats)]
    finally:
        shutil.rmtree(folder)
    print(table(rows))
    for row in rows:
        print(json.dumps(row))
    if arguments.output:
        replace_part(arguments.output, table(rows) + "\n")


if __name__ == "__main__":
    main()
