"""What catalog and plan cost per row, from synthesised metadata of millions of images.

    python benchmarks/scale.py [--millions 5] [--steps 20] [--ways WAY ...] [--folder DIR] [--json FILE]

Writes sample tables with the columns of real ones, 2.5 million rows each (ids of 31 characters, 32 random bytes for a
hash, one text of 60 characters per image, 1,000 concepts per table); no image is behind them. Then, each in a process
of its own, through the code that runs use:

- `catalog`: record_ingest of all tables in a fresh DuckDB file;
- `plan`: compose_stream over T steps, from the stored tables to the stored plan;
- `step`: compose_step of the last step, 1,000 batches of 512, half update and half buffer;
- `stream`: record_stream, which enters every member of the plan in the catalog.

Prints rows per second, peak memory (of the process, imports included), bytes per row on disk, and what a billion rows
would cost if all of it grew in proportion; docs/operations/catalog.md says where it does not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
WAYS = ("catalog", "plan", "step", "stream")
TABLE_ROWS, CONCEPTS = 2_500_000, 1_000
ITERATIONS, BATCH = 1_000, 512
BILLION = 1_000_000_000


def main() -> None:
    """Write the tables once, run the ways in turn, print a table."""
    options = _options()
    if options.way:
        print(json.dumps(_run(options.way, Path(options.folder), options.steps)))
        return
    with tempfile.TemporaryDirectory(prefix="evergreen-scale-", dir=options.folder) as folder:
        os.environ |= {"EVERGREEN_HOME": f"{folder}/home", "PYTHONPATH": str(ROOT)}
        sys.path.insert(0, str(ROOT))
        result: dict = {"rows": int(options.millions * 1e6), "steps": options.steps}
        result["written"] = _written(Path(folder), result["rows"])
        for way in WAYS:
            if way in options.ways:
                result[way] = _in_a_process(way, folder, options.steps)
                _show(way, result[way], result["rows"])
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--millions", type=float, default=5.0, help="rows in all")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="`step` and `stream` need `plan`")
    parser.add_argument("--folder", help="where the tables go for the time being: 0.25 GB per million rows")
    parser.add_argument("--json", help="a file for the numbers")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_process(way: str, folder: str, steps: int) -> dict:
    command = [sys.executable, __file__, "--way", way, "--folder", folder, "--steps", str(steps)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _run(way: str, folder: Path, steps: int) -> dict:
    from data_catalog import catalog, stream  # noqa: F401 imports are no part of the time
    from data_catalog.shards import DatasetRef

    datasets = [DatasetRef(**fields) for fields in json.loads((folder / "datasets.json").read_text())]
    start_gb, began, used = _peak_gb(), time.perf_counter(), time.process_time()
    made = {"catalog": _catalog, "plan": _plan, "step": _step, "stream": _stream}[way](datasets, folder, steps)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_gb": _peak_gb(), "start_gb": start_gb, "disk_mb": made / 1e6}


def _catalog(datasets: list, folder: Path, steps: int) -> int:
    from data_catalog import catalog
    from data_catalog.places import catalog_path

    catalog.record_ingest(datasets, [])
    return catalog_path().stat().st_size


def _plan(datasets: list, folder: Path, steps: int) -> int:
    from data_catalog import store
    from data_catalog.orderings import Random
    from data_catalog.stream import compose_stream

    plan = compose_stream(datasets, [], Random(), steps, 0, [])
    (folder / "plan.json").write_text(plan.model_dump_json())
    return store.locate(plan.digest).stat().st_size


def _stream(datasets: list, folder: Path, steps: int) -> int:
    from data_catalog import catalog
    from data_catalog.places import catalog_path
    from data_catalog.stream import StreamPlan

    before = catalog_path().stat().st_size if catalog_path().is_file() else 0
    catalog.record_stream("scale", StreamPlan.model_validate_json((folder / "plan.json").read_text()), ())
    return catalog_path().stat().st_size - before


def _step(datasets: list, folder: Path, steps: int) -> int:
    from data_catalog import store
    from data_catalog.mixture import Mixture
    from data_catalog.stream import StreamPlan, compose_step

    plan = StreamPlan.model_validate_json((folder / "plan.json").read_text())
    made = compose_step(plan, steps - 1, Mixture(pretraining=0, update=0.5, buffer=0.5), BATCH, ITERATIONS, 0)
    return store.locate(made.digest).stat().st_size


def _written(folder: Path, rows: int) -> dict:
    """The tables, and what they take: seconds to make them up, bytes on disk."""
    from data_catalog import store

    began, made = time.perf_counter(), []
    for number, start in enumerate(range(0, rows, TABLE_ROWS)):
        made.append(_table(f"WEB{number:04d}", min(TABLE_ROWS, rows - start), number))
    (folder / "datasets.json").write_text(json.dumps([dataset.model_dump() for dataset in made]))
    size = sum(store.locate(dataset.digest).stat().st_size for dataset in made)
    seconds = time.perf_counter() - began
    print(f"{rows:,} rows in {len(made)} tables, {size / rows:.0f} bytes each, made up in {seconds:.0f} s", flush=True)
    return {"seconds": seconds, "bytes_per_row": size / rows, "tables": len(made)}


def _table(name: str, count: int, seed: int) -> object:
    """A stored sample table made by arithmetic on whole columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from data_catalog import store
    from data_catalog.shards import SAMPLES, TEXTS, DatasetFacts, DatasetRef, with_facts

    rng = np.random.default_rng(seed)
    target = rng.integers(0, CONCEPTS, count).astype(np.int32)
    numbers = pc.utf8_lpad(pa.array(np.arange(count)).cast(pa.string()), 9, "0")
    keys = pc.binary_join_element_wise("image", numbers, "jpg", ".")
    classes = pa.array([f"{name.lower()} class {i}" for i in range(CONCEPTS)])
    concept = pa.DictionaryArray.from_arrays(pa.array(target), classes)
    said = pc.binary_join_element_wise("A photo of thing", numbers, "on a table beside a window", "light", " ")
    columns = {field.name: pa.nulls(count, field.type) for field in SAMPLES}
    columns |= {
        "id": pc.binary_join_element_wise(f"{name}/train", keys, "/"),
        "key": keys,
        "dataset": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [name]),
        "split": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["train"]),
        "concept": concept,
        "target": target,
        "shard": pc.binary_join_element_wise(f"web/{name}", pa.array(np.arange(count) // 10_000).cast("string"), "/"),
        "offset": np.arange(count) % 10_000 * 30_720,
        "length": rng.integers(5_000, 30_000, count),
        "hash": pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), count, [None, pa.py_buffer(rng.bytes(32 * count))]),
        "phash": rng.integers(0, 1 << 63, count, np.uint64),
        "width": np.full(count, 224, np.int32),
        "height": np.full(count, 224, np.int32),
        "format": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), ["jpeg"]),
        "synthetic_merged_caption": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), said).cast(TEXTS),
    }
    arrays = [columns[field.name] for field in SAMPLES]
    cast = [
        (each if isinstance(each, (pa.Array, pa.ChunkedArray)) else pa.array(each)).cast(field.type)
        for each, field in zip(arrays, SAMPLES, strict=True)
    ]
    facts = DatasetFacts(name=name, kind="classification", prompt_template="A {}.", classnames=classes.to_pylist())
    digest = store.write_table(with_facts(pa.table(cast, schema=SAMPLES), facts))
    return DatasetRef(digest=digest, name=name, samples={"train": count}, kind="classification")


def _peak_gb() -> float:
    """Of this program alone: `ru_maxrss` would begin with what the parent process had when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e9


def _show(way: str, run: dict, rows: int) -> None:
    memory, disk = (run["peak_gb"] - run["start_gb"]) * 1e9 / rows, run["disk_mb"] * 1e6 / rows
    print(
        f"{way:8} {run['seconds']:8.1f} s ({run['cpu_seconds']:.1f} of CPU)  {rows / run['seconds']:12,.0f} rows/s  "
        f"peak {run['peak_gb']:.2f} GB ({run['start_gb']:.2f} before), {memory:.1f} bytes a row; {disk:.1f} on disk; "
        f"a billion: {run['seconds'] * BILLION / rows / 3600:.1f} h, {memory:.0f} GB, {disk:.0f} GB on disk",
        flush=True,
    )


if __name__ == "__main__":
    main()
