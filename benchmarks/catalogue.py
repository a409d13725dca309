"""How long it takes to catalogue the metadata of the whole benchmark, bytes unread, and what an unchanged run costs.

    python benchmarks/catalogue.py [--scale 0.1] [--repeat 3] [--folder DIR] [--json FILE]

Writes a release with the benchmark's own numbers of images (2,527,271: training and test splits of the adaptation sets,
test splits of the others) in its own format: one JSON file per split with caption values of every kind that occurs, and
tars whose members hold one byte each. Then runs scan, ingest, template captions and the catalog, each run in a process
of its own. Prefect is left out; as its cached stages do, the unchanged run re-uses references after checking the bytes
that they name. Peak memory is what the operating system says of the process.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

TARGETS = {"first": {"seconds": 120.0, "peak_gb": 2.0}, "unchanged": {"seconds": 15.0, "peak_gb": 2.0}}
PHASES = ("scan", "ingest", "captions", "catalog")
WORDS = np.array([f"{a}{b}{c}" for a in "bcdfglmnprst" for b in "aeiou" for c in ("", "n", "rk", "st", "lle", "ting")])
BLOCK = 512
CHUNK = 100_000
SETTLE_SECONDS = 3  # files that changed a moment ago are looked at again, since clocks tick coarsely


def main() -> None:
    """Write the release once, run, print a table."""
    options = _options()
    if options.child:
        print(json.dumps(_run(Path(options.child), is_first=options.is_first)))
        return
    with tempfile.TemporaryDirectory(prefix="evergreen-catalogue-", dir=options.folder) as folder:
        result = {"scale": options.scale, "release": _written(Path(folder) / "release", options.scale)}
        time.sleep(SETTLE_SECONDS)
        runs = [_first_and_unchanged(Path(folder)) for _ in range(options.repeat)]
        result |= {name: _median([run[name] for run in runs]) for name in TARGETS}
    result["targets"] = TARGETS
    _show(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the benchmark's images")
    parser.add_argument("--repeat", type=int, default=1, help="runs of which the median is given")
    parser.add_argument("--folder", help="where the release and the homes go for the time being")
    parser.add_argument("--json", help="a file for the numbers")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--is-first", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _first_and_unchanged(folder: Path) -> dict[str, dict]:
    shutil.rmtree(folder / "home", ignore_errors=True)
    return {"first": _in_a_process(folder, "--is-first"), "unchanged": _in_a_process(folder)}


def _in_a_process(folder: Path, *flags: str) -> dict:
    places = {"EVERGREEN_HOME": str(folder / "home"), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, __file__, "--child", str(folder), *flags]
    done = subprocess.run(command, env=os.environ | places, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _run(folder: Path, is_first: bool) -> dict:
    from data_catalog import catalog, shards, store
    from data_catalog.captions import CaptionRef, Template, caption
    from data_catalog.shards import DatasetRef
    from data_catalog.sources import FomoInFlux

    source = FomoInFlux(name="release", data=str(folder / "release"), check="index")
    seconds: dict[str, float] = {}
    memory, began = folder / "home" / "references.json", time.perf_counter()
    raws = _timed(seconds, "scan", source.scan)
    if is_first:
        datasets = _timed(seconds, "ingest", lambda: [shards.ingest(source, raw) for raw in raws])
        captions = _timed(seconds, "captions", lambda: [caption(each, Template()) for each in datasets])
        pairs = zip(raws, datasets, captions, strict=True)
        memory.write_text(json.dumps({r.digest: [d.model_dump(), c.model_dump()] for r, d, c in pairs}))
    else:
        known = json.loads(memory.read_text())
        datasets = [DatasetRef(**known[raw.digest][0]) for raw in raws]
        captions = [CaptionRef(**known[raw.digest][1]) for raw in raws]
        for name, refs in (("ingest", datasets), ("captions", captions)):
            _timed(seconds, name, lambda refs=refs: [store.locate(ref.digest) for ref in refs])
    news = _timed(seconds, "catalog", lambda: catalog.record_ingest(datasets, captions))
    total = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    samples = sum(sum(each.samples.values()) for each in datasets)
    return {"seconds": total, **seconds, "cpu_seconds": used.ru_utime + used.ru_stime,
            "peak_gb": _peak_gb(), "samples": samples, "written": news,
            "catalog_mb": catalog.catalog_path().stat().st_size / 1e6}  # fmt: skip


def _timed(seconds: dict[str, float], phase: str, work: Callable) -> object:
    began = time.perf_counter()
    result = work()
    seconds[phase] = time.perf_counter() - began
    seconds[f"{phase}_peak_gb"] = _peak_gb()
    return result


def _peak_gb() -> float:
    """The most memory this process ever had, as the operating system says."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _written(root: Path, scale: float) -> dict:
    """The release in the benchmark's format; how many images, and how long writing took."""
    from data_catalog import registry

    root.mkdir(parents=True)
    began, images = time.perf_counter(), 0
    for number, entry in enumerate(entry for entry in registry.benchmark() if entry.role != "extra"):
        classes = max(1, entry.classes)
        if entry.kind == "classification":
            names = [f"class {WORDS[i % len(WORDS)]} {i}" for i in range(classes)]
            (root / f"{entry.info_prefix}_classnames.json").write_text(json.dumps(names))
        with open(root / f"{entry.info_prefix}.tar", "wb") as tar:
            for split in ("train", "test") if entry.role == "adaptation" else ("test",):
                count = max(1, round(entry.samples[split] * scale))
                images += count
                token = entry.split_tokens[split]
                keys = [f"{token}/{i % classes:05d}/image_{i:08d}.jpg" for i in range(count)]
                entries = _entries(entry, keys, classes, number)
                (root / f"{entry.info_prefix}_{token}.json").write_text(json.dumps(entries))
                _append_members(tar, [f"{entry.info_prefix}/{key}" for key in keys])
            tar.write(bytes(2 * BLOCK))
    return {"images": images, "seconds": time.perf_counter() - began}


def _entries(entry: object, keys: list[str], classes: int, number: int) -> dict[str, dict]:
    """Metadata with the caption values of one of the patterns that the real files show."""
    rng = np.random.default_rng(number)
    is_retrieval = entry.kind == "retrieval"
    found = {}
    for i, key in enumerate(keys):
        target = i % classes
        name = f"class {WORDS[target % len(WORDS)]} {target}"
        words = WORDS[rng.integers(0, len(WORDS), 17)]
        seen, merged = " ".join(words[:9]), f"A photo of a {name}: {' '.join(words)}."
        synthetic, fused = [([seen], [merged]), ([seen] * 3, merged), (None, None)][number % 3 if i % 50 else 2]
        found[key] = {
            "classname": None if is_retrieval else name,
            "target": i if is_retrieval else target,
            "default_caption": [f"{seen} {k}" for k in range(5)] if is_retrieval else None,
            "primer_caption": None if is_retrieval else entry.prompt_template.format(name),
            "synthetic_caption": synthetic,
            "synthetic_merged_caption": fused,
        }
    return found


def _append_members(tar: object, names: list[str]) -> None:
    """One ustar header and one byte of content per name, many at a time."""
    for start in range(0, len(names), CHUNK):
        part = np.array([name.encode() for name in names[start : start + CHUNK]], "S100")
        blocks = np.zeros((len(part), 2 * BLOCK), np.uint8)
        blocks[:, :100] = part.view(np.uint8).reshape(len(part), 100)
        fixed = {100: b"0000644\0", 108: b"0000000\0", 116: b"0000000\0", 124: b"00000000001\0", 136: b"00000000000\0",
                 148: b"        ", 156: b"0", 257: b"ustar\00000"}  # fmt: skip
        for at, value in fixed.items():
            blocks[:, at : at + len(value)] = np.frombuffer(value, np.uint8)
        sums = blocks[:, :BLOCK].sum(1)
        digits = np.array([b"%06o\0 " % total for total in sums], "S8").view("S8")
        blocks[:, 148:156] = np.frombuffer(b"".join(value.ljust(8, b" ") for value in digits), np.uint8).reshape(-1, 8)
        blocks[:, 154] = 0
        blocks[:, BLOCK] = 1
        tar.write(blocks.tobytes())


def _median(runs: list[dict]) -> dict:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _show(result: dict) -> None:
    written = result["release"]
    print(f"{written['images']:,} images of 63 datasets, written in {written['seconds']:.0f} s")
    columns = " ".join(f"{name:>8}" for name in (*PHASES, "CPU s", "peak GB"))
    print(f"{'run':10} {'samples':>10} {'s':>7} {columns}   target")
    for name, target in result["targets"].items():
        run = result[name]
        figures = " ".join(f"{run[key]:8.1f}" for key in (*PHASES, "cpu_seconds"))
        wanted = f"<= {target['seconds']:.0f} s, {target['peak_gb']:.0f} GB"
        print(f"{name:10} {run['samples']:10,} {run['seconds']:7.1f} {figures} {run['peak_gb']:8.2f}   {wanted}")
    print(f"the catalog takes {result['first']['catalog_mb']:.0f} MB")


if __name__ == "__main__":
    main()
