"""How long merging takes and how much memory, against reading the files, a stacked implementation and mergekit.

    python benchmarks/merging.py [--experts 20] [--parameters 150e6] [--repeats 3] [--steps 100]
        [--techniques ties magmax] [--mergekit ENVIRONMENT/bin/python] [--folder DIR] [--output docs/merging/speed.md]

Writes fp32 experts with the names and shapes of ViT-B/16 (13 GB of scratch space, deleted afterwards) and measures
every merge in a process of its own, where importing torch and the package is not counted; medians over the repeats.
All files are in the page cache: they have just been written, and are read once more before anything is measured.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from findings import replace_part
from merging_runs import base_of, experts_of

HERE = Path(__file__).parent
FEW = 4  # experts that also fit into memory at once
PEAK_GB, READING, FLAT = 2.0, 1.5, 1.2  # targets: at most
TARGETED = ("linear", "task_arithmetic")  # against reading
STREAMED, STREAM_PARAMETERS = ("linear", "ties"), 5e6


class Case(NamedTuple):
    """A technique with its options; what mergekit calls it and takes for it; whether both define it alike."""

    kind: str
    options: dict[str, Any]
    mergekit: tuple[str, dict[str, Any]] | None = None
    is_same_there: bool = False
    is_stacked: bool = False
    only: int | None = None  # takes this many experts

    @property
    def name(self) -> str:
        """Technique and density."""
        return f"{self.kind}, density 1" if self.options.get("density") == 1 else self.kind

    @property
    def technique(self) -> dict[str, Any]:
        """The specification."""
        return {"kind": self.kind} | self.options


SUM = {"weight": 1.0, "normalize": False}
MEAN = {"weight": 1.0, "normalize": True}
FIFTH = {"density": 0.2}
CASES = (
    Case("linear", {}, ("linear", MEAN), is_same_there=True, is_stacked=True),
    Case("slerp", {}, ("slerp", {"t": 0.5}), is_same_there=True, only=2),
    Case("task_arithmetic", {}, ("task_arithmetic", SUM), is_same_there=True, is_stacked=True),
    Case("ties", FIFTH, ("ties", MEAN | FIFTH), is_stacked=True),
    Case("ties", {"density": 1}, ("ties", MEAN | {"density": 1.0}), is_same_there=True),
    Case("dare_linear", FIFTH, ("dare_linear", SUM | FIFTH), is_stacked=True),
    Case("dare_ties", FIFTH, ("dare_ties", MEAN | FIFTH), is_stacked=True),
    Case("breadcrumbs_linear", FIFTH, ("breadcrumbs", SUM | FIFTH)),
    Case("breadcrumbs_ties", FIFTH, ("breadcrumbs_ties", MEAN | FIFTH)),
    Case("magmax", {}, is_stacked=True),
    Case("model_stock", {}, ("model_stock", {}), is_same_there=True),
    Case("tall_masks", {}),
    Case("random", {}),
    Case("karcher", {}, ("karcher", {}), is_same_there=True),
)

Row = dict[str, Any]


def main() -> None:
    """Write the experts, measure, print, fill the table."""
    given = _arguments()
    cases = [case for case in CASES if not given.techniques or case.kind in given.techniques]
    if given.folder:
        Path(given.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="evergreen-merging-", dir=given.folder) as folder:
        run("write", folder=folder, experts=given.experts, parameters=given.parameters)
        rows = [shown(measured(case, folder, given)) for case in cases]
    flat = [streamed(case, given) for case in cases if case.kind in STREAMED and given.steps]
    for line in [*flat, *verdicts(rows, flat)]:
        shown(line)
    if given.output:
        replace_part(given.output, table(rows, flat))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experts", type=int, default=20)
    parser.add_argument("--parameters", type=float, default=150e6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="of the stream; 0 leaves it out")
    parser.add_argument("--techniques", nargs="+", help="only these")
    parser.add_argument("--mergekit", type=Path, help="the Python of an environment that has mergekit")
    parser.add_argument("--folder", help="where the experts go for the time being")
    parser.add_argument("--output", type=Path, help="a markdown file whose part between the two marks is replaced")
    return parser.parse_args()


def run(action: str, **arguments: Any) -> Row:
    """Carry out an action of `merging_runs.py` in a process of its own."""
    return _json_of([sys.executable, str(HERE / "merging_runs.py"), action, json.dumps(arguments)])


def shown(row: Row) -> Row:
    """The row, printed."""
    print(json.dumps(row), flush=True)
    return row


def _json_of(command: list[str]) -> Row:
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{command[1:]} failed; its last lines: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(case: Case, folder: str, given: argparse.Namespace) -> Row:
    """All numbers of one technique: with all experts, then with the few that fit into memory."""
    many, few = case.only or given.experts, case.only or FEW
    outputs = {side: f"{folder}/{side}" for side in ("ours", "stacked", "mergekit")}
    job = {"folder": folder, "technique": case.technique}
    row: Row = {"technique": case.name, "experts": many}
    row |= medians(given.repeats, reading=partial(run, "read", folder=folder, experts=many),
                   many=partial(run, "ours", **job, experts=many, output=outputs["ours"]))  # fmt: skip
    row["times_reading"] = row["many"]["seconds"] / row["reading"]["seconds"]
    sides = {"ours": partial(run, "ours", **job, experts=few, output=outputs["ours"])}
    if case.is_stacked:
        sides["stacked"] = partial(run, "stacked", **job, experts=few, output=outputs["stacked"])
    if given.mergekit and case.mergekit:
        sides["mergekit"] = partial(by_mergekit, case, few, folder, outputs["mergekit"], given.mergekit)
    row |= medians(given.repeats, warm=partial(run, "read", folder=folder, experts=few), **sides)
    written = {"stacked": outputs["stacked"], "mergekit": f"{outputs['mergekit']}/model.safetensors"}
    for side in written.keys() & sides.keys():
        row[side] |= run("compare", folder=folder, left=outputs["ours"], right=written[side])
    remove(outputs.values())
    return row


def medians(repeats: int, **sides: partial) -> Row:
    """Run the sides in turn, so many times; the median of each number of each."""
    found = [{side: call() for side, call in sides.items()} for _ in range(repeats)]
    return {side: {key: statistics.median(run[side][key] for run in found) for key in found[0][side]} for side in sides}


def by_mergekit(case: Case, experts: int, folder: str, output: str, python: Path) -> Row:
    """The same merge by mergekit; slerp goes there from its base to the other model."""
    method, parameters = case.mergekit or ("", {})
    models = [str(path) for path in experts_of(Path(folder), experts)]
    config: Row = {"merge_method": method, "models": [{"model": path} for path in models], "parameters": parameters}
    if case.kind == "slerp":
        config["base_model"] = models[0]
    elif method not in ("linear", "karcher"):
        config["base_model"] = str(base_of(Path(folder)))
    arguments = json.dumps({"config": config, "output": output})
    return _json_of([str(python), str(HERE / "mergekit_merging.py"), arguments])


def streamed(case: Case, given: argparse.Namespace) -> Row:
    """Whether a merge takes as long after many steps as after few."""
    job = {"steps": given.steps, "parameters": STREAM_PARAMETERS, "technique": case.technique}
    with tempfile.TemporaryDirectory(prefix="evergreen-merging-", dir=given.folder) as folder:
        row = run("stream", folder=folder, **job)
    return {"stream": case.name, "steps": given.steps} | row | {"ratio": row["last_ten"] / row["first_ten"]}


def verdicts(rows: list[Row], flat: list[Row]) -> Iterator[Row]:
    """One line for each target of each technique."""
    for row in rows:
        yield verdict(row, "peak_gb", row["many"]["peak_gb"], PEAK_GB)
        if row["technique"] in TARGETED:
            yield verdict(row, "times_reading", row["times_reading"], READING)
        for side in {"stacked", "mergekit"} & row.keys():
            yield verdict(row, f"times_{side}", row["ours"]["seconds"] / row[side]["seconds"], 1.0)
    for row in flat:
        yield verdict({"technique": row["stream"]}, "last_ten_to_first_ten", row["ratio"], FLAT)


def verdict(row: Row, target: str, value: float, limit: float) -> Row:
    """A number against its limit."""
    return {"technique": row["technique"], "target": target, "value": value, "limit": limit, "is_met": value <= limit}


def table(rows: list[Row], flat: list[Row]) -> str:
    """Markdown: all experts against reading; a few against other implementations; the stream."""
    many = [
        [named(row), row["experts"], seconds(row["many"]), f"{row['times_reading']:.2f}",
         f"{row['many']['seconds'] / (row['reading']['seconds'] + row['reading']['write_seconds']):.2f}",
         f"{row['many']['peak_gb']:.2f}"]
        for row in rows
    ]  # fmt: skip
    same = {case.name: case.is_same_there for case in CASES}
    few = [
        [named(row), *both(row["ours"]), *other(row.get("stacked"), "dare" not in row["technique"]),
         *other(row.get("mergekit"), same[row["technique"]])]
        for row in rows
    ]  # fmt: skip
    steps = [[named(row), f"{row['first_ten']:.3f}", f"{row['last_ten']:.3f}", f"{row['ratio']:.2f}"] for row in flat]
    beside = ["seconds", "peak GB", "difference"]
    return "\n".join(
        (
            markdown(["technique", "experts", "seconds", "x reading", "x reading and writing", "peak GB"], many),
            markdown(["technique", "seconds", "peak GB", *(f"stacked: {name}" for name in beside),
                      *(f"mergekit: {name}" for name in beside)], few),
            markdown(["running merge", "first ten steps: seconds", "last ten", "ratio"], steps),
        )
    )  # fmt: skip


def markdown(header: list[str], rows: list[list[Any]]) -> str:
    """A table whose first column is words and whose others are numbers."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)


def named(row: Row) -> str:
    """The technique as the configuration calls it, and what else distinguishes it."""
    kind, comma, rest = row.get("technique", row.get("stream")).partition(",")
    return f"`{kind}`{comma}{rest}"


def seconds(found: Row) -> str:
    """Seconds to the hundredth."""
    return f"{found['seconds']:.2f}"


def both(found: Row) -> list[str]:
    """Seconds and memory."""
    return [seconds(found), f"{found['peak_gb']:.2f}"]


def other(found: Row | None, is_same: bool) -> list[str]:
    """What another implementation took, and how far its result is from ours where it should be the same."""
    if not found:
        return ["", "", ""]
    alike = f"{found['difference']:.0e}" if is_same else f"other by definition, length x {found['length_ratio']:.3f}"
    return [*both(found), alike]


def remove(paths: Iterable[str]) -> None:
    """Delete outputs, which are files or folders."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


if __name__ == "__main__":
    main()
