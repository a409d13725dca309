"""Every update method at one price: trainable parameters, cost, iterations, and what it learns and keeps on the demo.

    python benchmarks/methods.py [--seeds 0 1 2] [--output docs/methods/compared.md]

Runs `evergreen run flows/configs/demo/methods.yaml --seed N`, which re-uses what was run before, and prints one row per
recipe: mean over the seeds, and in brackets half of the range between the highest and the lowest.
"""

import statistics

from findings import CONFIGS, parsed, record_of, replace_part

from data_catalog.mixture import split_batch
from data_catalog.store import origins
from flows.environment import open_home
from flows.experiment import ExperimentConfig, load
from models.costs import price
from models.evaluation.record import ExperimentRecord

CONFIG = CONFIGS / "demo" / "methods.yaml"
MEASURES = {"KA": "knowledge_accumulation", "ZS": "zero_shot_retention", "GM": "geometric_mean"}
COSTS = ("parameters trained", "GFLOPs", "memory", "MAFs", "once a step", "iterations a step")
COLUMNS = ("recipe", "method", "lr", *COSTS, *MEASURES)


def row(name: str, experiment: ExperimentConfig, records: list[ExperimentRecord]) -> list[str]:
    """One recipe: what trains, what it costs, what came of it."""
    recipe = experiment.recipes[name]
    backbone = origins(records[0].pretrained)[0]["backbone"]
    parts = split_batch(experiment.batch_size, recipe.mixture, step=1)
    cost = price(backbone, recipe.update, experiment.batch_size, parts["pretraining"])
    lives = [next(recipe for recipe in record.recipes if recipe.name == name) for record in records]
    scores = {
        column: [getattr(life.steps[-1].summary, measure) for life in lives] for column, measure in MEASURES.items()
    }
    spread = [f"{statistics.mean(v):.3f} ({(max(v) - min(v)) / 2:.3f})" for v in scores.values()]
    return [name, f"`{recipe.update.method.kind}`", f"{recipe.update.lr:g}", f"{cost.trainable_parameters:,}",
            f"{cost.gflops:.3f}", f"{cost.memory_multiplier:.3f}", f"{cost.mafs:.3f}", f"{cost.once_mafs:.1f}",
            str(lives[0].steps[0].iterations), *spread]  # fmt: skip


def table(seeds: list[int]) -> str:
    """Markdown: the untouched model, then one row per recipe."""
    records = [record_of(CONFIG, seed) for seed in seeds]
    experiment = load(CONFIG)
    untouched = [statistics.mean(getattr(r.zero_shot_summary, m) for r in records) for m in MEASURES.values()]
    rows = [["untouched", *[""] * (len(COLUMNS) - 1 - len(MEASURES)), *(f"{value:.3f}" for value in untouched)]]
    rows += [row(name, experiment, records) for name in experiment.recipes]
    lines = [COLUMNS, ["---"] * 2 + ["---:"] * (len(COLUMNS) - 2), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Run what is missing, print the table and write it into the file."""
    given = parsed(__doc__)
    open_home()
    text = table(given.seeds)
    print(text)
    if given.output:
        replace_part(given.output, text)


if __name__ == "__main__":
    main()
