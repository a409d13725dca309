"""Every merging technique under four rules of init and deploy on the demo, and whether the rules matter more.

    python benchmarks/techniques.py [--seeds 0 1 2] [--output docs/merging/compared.md]

Runs `evergreen run flows/configs/demo/techniques.yaml --seed N`, which re-uses what was run before. Prints means over
the seeds and half of the range; then how far apart rules are at one technique, and techniques at one rule: the best
from the worst, and the ends of the middle half, which a technique that fails does not move.
"""

import statistics
from collections.abc import Callable

from findings import CONFIGS, parsed, record_of, replace_part

from flows.environment import open_home
from models.evaluation.record import ExperimentRecord

CONFIG = CONFIGS / "demo" / "techniques.yaml"
MEASURES = {"KA": "knowledge_accumulation", "ZS": "zero_shot_retention", "GM": "geometric_mean"}
RULES = ("ema-ema", "zs-all", "zs-ema", "ft-ft")

Scores = dict[str, list[float]]  # recipe -> a value per seed


def scores_of(records: list[ExperimentRecord], measure: str) -> Scores:
    """What every recipe ended with."""
    return {
        recipe.name: [
            getattr(next(r for r in record.recipes if r.name == recipe.name).steps[-1].summary, measure)
            for record in records
        ]
        for recipe in records[0].recipes
    }


def table(scores: dict[str, Scores], untouched: dict[str, list[float]]) -> str:
    """Markdown: a row per technique, a column per rule, KA / ZS / GM in each."""
    names = dict.fromkeys(n.removeprefix(f"{rule}-") for rule in RULES for n in scores["GM"] if n.startswith(rule))
    lines = [("technique", *(rule.replace("-", "/") for rule in RULES)), ["---"] * (len(RULES) + 1)]
    lines += [(name, *(_cell(scores, f"{rule}-{name}") for rule in RULES)) for name in names]
    plain = {measure: scores[measure]["mixture"] for measure in MEASURES}
    lines.append(("(sequential finetuning)", "", "", "", _triple(plain)))
    lines.append(("(untouched)", _triple(untouched), "", "", ""))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def spreads(scores: dict[str, Scores]) -> str:
    """Markdown: mean distance between rules at one technique, and between techniques at one rule, in two ways."""
    lines = [
        (
            "measure",
            "distance",
            "between rules, at one technique",
            "between techniques, at one rule",
            "rules matter more",
        )
    ]
    lines.append(["---", "---", "---:", "---:", "---:"])
    for way, distance in {"best to worst": _range, "middle half": _middle_half}.items():
        for measure, of_recipes in scores.items():
            rules, kinds = zip(*(_spreads(grid, distance) for grid in _grids(of_recipes)), strict=True)
            more = sum(a > b for a, b in zip(rules, kinds, strict=True))
            means = (f"{statistics.mean(values):.3f}" for values in (rules, kinds))
            lines.append((measure, way, *means, f"{more} of {len(rules)} seeds"))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _grids(of_recipes: Scores) -> list[list[list[float]]]:
    """Per seed, the scores [technique][rule] of the techniques that were tried under every rule."""
    names = [name.removeprefix("ema-ema-") for name in of_recipes if name.startswith("ema-ema-")]
    whole = [name for name in names if all(f"{rule}-{name}" in of_recipes for rule in RULES)]
    seeds = range(len(next(iter(of_recipes.values()))))
    return [[[of_recipes[f"{rule}-{name}"][seed] for rule in RULES] for name in whole] for seed in seeds]


def _spreads(grid: list[list[float]], distance: Callable[[list[float]], float]) -> tuple[float, float]:
    """(mean distance over rules, mean distance over techniques) of scores [technique][rule]."""
    over_rules = statistics.mean(distance(row) for row in grid)
    return over_rules, statistics.mean(distance(list(column)) for column in zip(*grid, strict=True))


def _middle_half(values: list[float]) -> float:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def _range(values: list[float]) -> float:
    return max(values) - min(values)


def _cell(scores: dict[str, Scores], name: str) -> str:
    return _triple({m: scores[m][name] for m in MEASURES}) if name in scores["GM"] else "takes two"


def _triple(values: dict[str, list[float]]) -> str:
    spread = _range(values["GM"]) / 2
    return " / ".join(f"{statistics.mean(values[m]):.3f}" for m in MEASURES) + f" ({spread:.3f})"


def main() -> None:
    """Run what is missing, print the tables and write them into the file."""
    given = parsed(__doc__)
    open_home()
    records = [record_of(CONFIG, seed) for seed in given.seeds]
    scores = {column: scores_of(records, measure) for column, measure in MEASURES.items()}
    untouched = {c: [getattr(r.zero_shot_summary, m) for r in records] for c, m in MEASURES.items()}
    text = f"{table(scores, untouched)}\n{spreads(scores)}"
    print(text)
    if given.output:
        replace_part(given.output, text)


if __name__ == "__main__":
    main()
