"""How long it takes to plan the whole benchmark's stream, and to scan for every class instead.

    python benchmarks/compose_stream.py [--stream FILE.json.gz] [--steps 20] [--repeat 5] [--folder DIR] [--json FILE]

Writes sample tables with the benchmark's numbers of training images (1,759,790) spread at random over the concepts of a
published stream (18,381), or of a random one of the same shape where the file is not there. Each way runs in a process
of its own, the ways taking turns, and the median is given:

- `plan`: compose_stream from the stored tables to the stored plan, with checks of bytes, names and captions;
- `sort`: what it does in memory, from class numbers to the rows of each step, by one stable sort;
- `scan arrays`, `scan lists`: the straightforward way to the same rows, one scan of a dataset's targets per class, with
  targets as NumPy arrays or as Python lists;
- `step`: compose_step of the last step, 1,420 batches of 512.

All ways must find the same rows in the same steps. `read` is what the three in memory need before they start: the class
numbers from the tables. Peak memory is what the operating system says of the process, imports included.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT.parent / "shared/fomo_in_flux/streams/random_sequence_1.json.gz"
WAYS = ("plan", "sort", "scan arrays", "scan lists", "step")
TARGETS = {"seconds": 10.0, "peak_gb": 1.5, "ratio": 50.0}
ITERATIONS, BATCH = 1420, 512


def main() -> None:
    """Write the tables once, run the ways in turn, print a table."""
    options = _options()
    if options.way:
        print(json.dumps(_run(options.way, Path(options.folder), options.steps)))
        return
    with tempfile.TemporaryDirectory(prefix="evergreen-compose-", dir=options.folder) as folder:
        os.environ["EVERGREEN_HOME"] = str(Path(folder) / "home")
        sys.path.insert(0, str(ROOT))
        result = {"steps": options.steps, "stream": _written(Path(folder), Path(options.stream))}
        runs: dict[str, list[dict]] = {way: [] for way in WAYS}
        for _ in range(options.repeat):
            for way in WAYS:
                runs[way].append(_in_a_process(way, folder, options.steps))
    found = {run["rows"] for way in WAYS for run in runs[way]}
    if len(found) > 1:
        raise SystemExit("the ways disagree on the rows of the steps")
    keys = ("seconds", "read", "peak_gb", "start_gb")
    result |= {way: {key: statistics.median(run[key] for run in runs[way]) for key in keys} for way in WAYS}
    result |= {"repeat": options.repeat, "targets": TARGETS}
    _show(result)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", default=str(PUBLISHED), help="a published stream")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the median is given")
    parser.add_argument("--folder", help="where the tables go for the time being")
    parser.add_argument("--json", help="a file for the numbers")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(way: str, folder: str, steps: int) -> dict:
    command = [sys.executable, __file__, "--way", way, "--folder", folder, "--steps", str(steps)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _run(way: str, folder: Path, steps: int) -> dict:
    from data_catalog import stream  # noqa: F401 imports are no part of the time
    from data_catalog.orderings.from_file import FromFile
    from data_catalog.shards import DatasetRef

    datasets = [DatasetRef(**fields) for fields in json.loads((folder / "datasets.json").read_text())]
    ordering = FromFile(path=str(folder / "stream.json"))
    start_gb = _peak_gb()
    if way in ("plan", "step"):
        seconds, read, rows = _staged(way, datasets, ordering, steps, folder)
    else:
        seconds, read, rows = _in_memory(way, datasets, ordering, steps)
    return {"seconds": seconds, "read": read, "rows": rows, "peak_gb": _peak_gb(), "start_gb": start_gb}


def _staged(way: str, datasets: list, ordering: object, steps: int, folder: Path) -> tuple[float, float, str]:
    """Seconds of compose_stream, or of compose_step with the plan of an earlier run."""
    from data_catalog import store
    from data_catalog.mixture import Mixture
    from data_catalog.stream import StreamPlan, compose_step, compose_stream

    kept = folder / "plan.json"
    began = time.perf_counter()
    if way == "plan":
        plan = compose_stream(datasets, [], ordering, steps, 0, [])
        kept.write_text(plan.model_dump_json())
    else:
        plan = StreamPlan.model_validate_json(kept.read_text())
        mixture = Mixture(pretraining=0, update=0.5, buffer=0.5)
        compose_step(plan, steps - 1, mixture, BATCH, ITERATIONS, 0)
    seconds = time.perf_counter() - began
    table = store.read_table(plan.digest)
    return seconds, 0.0, _digest(_by_step_and_dataset(table, [dataset.name for dataset in datasets]))


def _in_memory(way: str, datasets: list, ordering: object, steps: int) -> tuple[float, float, str]:
    """Seconds from the class of each sample to the rows of each step, and those of reading the tables before."""
    from data_catalog.cutting import cut_stream
    from data_catalog.orderings.base import Concept
    from data_catalog.sample_columns import training_rows

    began = time.perf_counter()
    found = {dataset.name: training_rows(dataset, ()) for dataset in datasets}
    concepts = [Concept(name, concept) for name, rows in found.items() for concept in rows.names]
    order = cut_stream(ordering.order(concepts, np.random.default_rng(0)), "equal", steps)
    number = {name: {concept: i for i, concept in enumerate(rows.names)} for name, rows in found.items()}
    targets = {name: rows.concept.tolist() if way == "scan lists" else rows.concept for name, rows in found.items()}
    read = time.perf_counter() - began
    began = time.perf_counter()
    rows = _sorted(datasets, found, order) if way == "sort" else _scanned(way, targets, number, order)
    seconds = time.perf_counter() - began
    if way == "sort":
        rows = _by_step_and_dataset(rows, [dataset.name for dataset in datasets])
    return seconds, read, _digest(rows)


def _sorted(datasets: list, found: dict, order: list) -> object:
    from data_catalog.captions import CaptionPolicy
    from data_catalog.plan_rows import Sources
    from data_catalog.stream import plan_table, steps_of_rows

    arrives = {concept: step for step, chunk in enumerate(order) for concept in chunk}
    step_of = [steps_of_rows(name, rows, arrives) for name, rows in found.items()]
    return plan_table(list(found.values()), step_of, Sources.of(datasets, (), CaptionPolicy(), ()))


def _scanned(way: str, targets: dict, number: dict, order: list) -> list[list]:
    """Per step and dataset the rows of every class, each found by looking at all targets of its dataset."""
    scan = _scan_list if way == "scan lists" else _scan_array
    found = []
    for chunk in order:
        rows = {name: [] for name in targets}
        for dataset, name in chunk:
            rows[dataset].extend(scan(targets[dataset], number[dataset][name]))
        found.append(list(rows.values()))
    return found


def _scan_list(targets: list[int], wanted: int) -> list[int]:
    return [i for i, target in enumerate(targets) if target == wanted]


def _scan_array(targets: np.ndarray, wanted: int) -> np.ndarray:
    return np.flatnonzero(targets == wanted)


def _by_step_and_dataset(plan: object, names: list[str]) -> list[list[np.ndarray]]:
    """The rows of a plan in the same shape as those of the scans."""
    step, row = plan["step"].to_numpy(), plan["row"].to_numpy()
    place = {name: i for i, name in enumerate(names)}
    dataset = np.array([place[name] for name in plan["dataset"].to_pylist()])
    return [[row[(step == s) & (dataset == d)] for d in range(len(names))] for s in range(step.max() + 1)]


def _digest(rows: list[list]) -> str:
    """One digest of the rows of every (step, dataset), ascending."""
    whole = hashlib.sha256()
    for step in rows:
        for found in step:
            whole.update(np.sort(np.asarray(found, np.int64)).tobytes() + b"/")
    return whole.hexdigest()


def _peak_gb() -> float:
    """Of this program alone: `ru_maxrss` would begin with what the parent process had when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def _written(folder: Path, published: Path) -> dict:
    """The stream and a sample table per dataset; how many samples and concepts there are."""
    from data_catalog import registry
    from data_catalog.orderings.from_file import read_stream

    known = registry.by_name(registry.benchmark())
    if published.is_file():
        stream = [(known[dataset].info_prefix, name) for dataset, name in read_stream(published)]
    else:
        adapted = [entry for entry in registry.benchmark() if entry.role == "adaptation"]
        stream = [(e.info_prefix, f"class {i}") for e in adapted for i in range(e.classes_in_streams)]
        np.random.default_rng(0).shuffle(stream)
    (folder / "stream.json").write_text(json.dumps(["+++".join(entry) for entry in stream]))
    names: dict[str, list[str]] = {}
    for dataset, name in stream:
        names.setdefault(dataset, []).append(name)
    datasets = [_table(known[name], concepts) for name, concepts in sorted(names.items())]
    (folder / "datasets.json").write_text(json.dumps([dataset.model_dump() for dataset in datasets]))
    samples = sum(dataset.samples["train"] for dataset in datasets)
    return {"samples": samples, "concepts": len(stream), "datasets": len(datasets), "published": published.is_file()}


def _table(entry: object, names: list[str]) -> object:
    """A stored sample table whose samples have the columns, but not the bytes, of real ones."""
    import pyarrow as pa

    from data_catalog import store
    from data_catalog.shards import SAMPLES, TEXTS, DatasetFacts, DatasetRef, with_facts

    count, rng = entry.samples["train"], np.random.default_rng(len(names))
    concept = rng.permutation(np.concatenate([np.arange(len(names)), rng.integers(0, len(names), count - len(names))]))
    keys = [f"{target:05d}/image_{i:08d}.jpg" for i, target in enumerate(concept)]
    said = [[f"A photo of a {names[target]}, number {i}, on a table beside a window in soft light, with two trees"]
            for i, target in enumerate(concept)]  # fmt: skip
    columns = {field.name: pa.nulls(count, field.type) for field in SAMPLES}
    columns |= {
        "id": [f"{entry.info_prefix}/train/{key}" for key in keys],
        "key": keys,
        "dataset": [entry.info_prefix] * count,
        "split": ["train"] * count,
        "concept": [names[target] for target in concept],
        "target": concept.astype(np.int32),
        "shard": [f"release/{entry.info_prefix}.tar"] * count,
        "offset": np.arange(count) * 30_720,
        "length": rng.integers(5_000, 30_000, count),
        "hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, pa.py_buffer(rng.bytes(32 * count))]),
        "phash": rng.integers(0, 1 << 63, count, np.uint64),
        "width": np.full(count, 224, np.int32),
        "height": np.full(count, 224, np.int32),
        "format": ["jpeg"] * count,
        "synthetic_merged_caption": pa.array(said, TEXTS),
    }
    facts = DatasetFacts(name=entry.info_prefix, kind="classification", prompt_template="A {}.", classnames=names)
    digest = store.write_table(with_facts(pa.table(columns, schema=SAMPLES), facts))
    return DatasetRef(digest=digest, name=entry.info_prefix, samples={"train": count}, kind="classification")


def _show(result: dict) -> None:
    about, steps = result["stream"], result["steps"]
    print(f"{about['samples']:,} samples, {about['concepts']:,} concepts, {about['datasets']} datasets, T={steps}, "
          f"medians of {result['repeat']}")  # fmt: skip
    print(
        f"{'way':12} {'s':>8} {'read s':>8} {'peak GB':>8} {'of it before':>13} {'plan is faster':>15} {'sort is':>9}"
    )
    for way in WAYS:
        run = result[way]
        total = run["seconds"] + run["read"]
        ratios = f"{total / result['plan']['seconds']:14.1f}x {run['seconds'] / result['sort']['seconds']:8.1f}x"
        line = f"{way:12} {run['seconds']:8.2f} {run['read']:8.2f} {run['peak_gb']:8.2f} {run['start_gb']:13.2f}"
        print(line + (f" {ratios}" if way.startswith("scan") else ""))
    target = result["targets"]
    print(
        f"targets: plan <= {target['seconds']:.0f} s and {target['peak_gb']} GB, {target['ratio']:.0f}x over the scans"
    )


if __name__ == "__main__":
    main()
