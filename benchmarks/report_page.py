"""How large the report of a long stream is, and how soon it answers: T = 100 steps, the benchmark's 63 datasets.

    python benchmarks/report_page.py [--recipes 3] [--repeats 5]

The experiment is made up (random scores with intervals; curves of 284 iterations per step; every stage of the run), the
page is the real one. Times are Chromium's own, from the start of navigation: `answers`, when the page has been parsed
and its library has run, so that it scrolls and unfolds; `first figure`, when what is on the first screen is drawn;
`all figures`, when the last one far below is. `longest task`: the longest time in between that a key press would wait.
Targets: at most 6 MB, and at most 2 s to the first figure.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))
from data_catalog import registry, store
from data_catalog.stream import StepSummary
from models.evaluation import page
from models.evaluation.page_parts import plotting_library
from models.evaluation.record import ExperimentRecord, RecipeRecord, StageRecord, StepRecord
from models.evaluation.scores import EvalReport, Score, summarise
from tests.chromium import browsing

STEPS, ITERATIONS = 100, 284
WATCH = """new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) self.longest = Math.max(self.longest || 0, entry.duration);
}).observe({ type: "longtask", buffered: true });
const first = () => document.querySelector(".plot .main-svg")
  ? (self.first = performance.now()) : setTimeout(first, 5);
first();"""


def experiment(recipes: int) -> ExperimentRecord:
    """An experiment of 100 steps on the 63 datasets of the benchmark."""
    random = np.random.default_rng(0)
    sets = {
        role: [e.info_prefix for e in registry.benchmark() if e.role == role] for role in ("adaptation", "retention")
    }
    adaptation, retention = sets.values()
    start = report(random, [*adaptation, *retention], 0.4)
    return ExperimentRecord(
        name="long-stream", seed=0, config="name: long-stream\n" + "# the rest of it\n" * 150,
        adaptation=adaptation, retention=retention, zero_shot=start, pretrained=start.checkpoint,
        zero_shot_summary=summarise(-1, start, adaptation, retention),
        recipes=[recipe(random, f"recipe-{i}", adaptation, retention) for i in range(recipes)],
        stream=[StepSummary(name=f"step {t}", concepts=184, samples=9000, datasets=adaptation) for t in range(STEPS)],
        stages=list(stages(recipes)),
    )  # fmt: skip


def recipe(random: np.random.Generator, name: str, adaptation: list[str], retention: list[str]) -> RecipeRecord:
    """One line through the stream."""
    steps = []
    for t in range(STEPS):
        found = report(random, [*adaptation, *retention], 0.4 + 0.2 * t / STEPS)
        digest = store.digest_of(f"{name} {t}".encode())
        steps.append(StepRecord(
            step=t, scores=found, summary=summarise(t, found, adaptation, retention), expert=digest, deployed=digest,
            step_plan=digest, curves=curves(random), iterations=ITERATIONS, seconds=100.0, mafs_planned=1.8e7,
            mafs_used=1.79e7, draws={"update": 48_000, "buffer": 48_000 if t else 0, "pretraining": 48_000},
        ))  # fmt: skip
    return RecipeRecord(name=name, description="made up", steps=steps)


def report(random: np.random.Generator, names: list[str], level: float) -> EvalReport:
    """Scores of one checkpoint, five metrics per dataset, all with intervals."""
    scores = []
    for name in names:
        value = float(np.clip(random.normal(level, 0.05), 0.02, 0.9))
        for metric in ("accuracy_top1", "accuracy_top5", "accuracy_per_class", "calibration_error"):
            scores.append(Score(dataset=name, metric=metric, value=value, samples=1000, low=value - 0.02,
                                high=value + 0.02))  # fmt: skip
    return EvalReport(checkpoint=store.digest_of(random.bytes(8)), scores=scores)


def curves(random: np.random.Generator) -> str:
    """The stored curves of one step."""
    loss = np.exp(-np.arange(ITERATIONS) / 100) + random.random(ITERATIONS)
    return store.write_table(pa.table({"loss": loss, "lr": np.linspace(1e-5, 0, ITERATIONS)}))


def stages(recipes: int) -> list[StageRecord]:
    """Composition, update, merge and evaluation of every step; a third of them re-used."""
    for number in range(recipes * STEPS * 4):
        kind = ("compose_step", "update_weights", "merge_weights", "evaluate_checkpoint")[number % 4]
        yield StageRecord(stage=kind, label=f"{kind} {number // 4}", reused=number % 3 == 0, reason="first run",
                          seconds=5.0, ended=1e9 + 5 * number)  # fmt: skip


def times_of(path: Path) -> dict[str, float]:
    """Seconds of one visit in a browser of its own, whose caches are empty."""
    with browsing() as tab:
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        tab.show(1200, 900)
        tab.open(path, until="document.documentElement.dataset.drawn")
        answers = tab.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd")
        drawn = tab.evaluate("performance.getEntriesByName('drawn')[0].startTime")
        found = {"answers": answers, "first figure": tab.evaluate("self.first"), "all figures": drawn,
                 "longest task": tab.evaluate("self.longest || 0")}  # fmt: skip
        if said := tab.complaints() + tab.requests():
            sys.exit(f"the page complains or loads something: {said}")
        return {name: value / 1000 for name, value in found.items()}


def main() -> None:
    """Measure, and print a table for docs/evaluation/report.md."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--recipes", type=int, default=3)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--keep", type=Path, help="write the page to this file")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["EVERGREEN_HOME"] = home
        record = experiment(given.recipes)
        began = time.perf_counter()
        text = page.render(record)
        rendered = time.perf_counter() - began
        path = given.keep or Path(home) / "page.html"
        path.write_text(text)
        visits = [times_of(path) for _ in range(given.repeats)]
    print(f"{given.recipes} recipes x {STEPS} steps x {len(record.adaptation) + len(record.retention)} datasets\n")
    print("| of the page | |\n|---|---:|")
    print(f"| size | {len(text.encode()) / 1e6:.2f} MB |")
    print(f"| of that, the plotting library | {len(plotting_library().encode()) / 1e6:.2f} MB |")
    print(f"| written in | {rendered:.1f} s |")
    for name in visits[0]:
        values = [visit[name] for visit in visits]
        print(f"| {name}, median of {len(values)} (worst) | {statistics.median(values):.2f} s ({max(values):.2f}) |")


if __name__ == "__main__":
    main()
