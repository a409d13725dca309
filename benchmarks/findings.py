"""What FoMo-in-Flux and TIME found, tried on the demo's stream: which of it holds at this size, seed by seed.

    python benchmarks/findings.py [--seeds 0 1 2] [--output docs/findings.md]

The findings are those of arXiv 2408.14471 (sections 5 and 6) and arXiv 2412.06712 that a model of half a million
parameters can show. Every experiment is a file of `flows/configs` run by `evergreen run`, so what is done is re-used.
A finding holds for a seed if every inequality in it does; nothing is averaged before that.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from models.evaluation.record import ExperimentRecord

CONFIGS = Path(__file__).parents[1] / "flows" / "configs"

Scores = dict[str, dict[str, float]]  # recipe -> KA and ZS after the last step


class Finding(NamedTuple):
    """A claim about a series of recipes: `measure` does not fall from the first to the last (or does not rise)."""

    claim: str
    measure: str  # of the final summary
    series: tuple[tuple[str, str], ...]  # (experiment file, recipe), from the lowest to the highest by the claim


def series(config: str, *recipes: str) -> tuple[tuple[str, str], ...]:
    """Recipes of one experiment."""
    return tuple((config, recipe) for recipe in recipes)


PAST = ("past-0.1", "past-0.5", "past-0.7", "past-0.9")
RATES = ("rate-0.008", "rate-0.002", "rate-0.0005")
FINDINGS = (
    Finding("replay learns more than no replay", "knowledge_accumulation", series("demo.yaml", "no-replay", "mixture")),
    Finding("replay keeps more than no replay", "zero_shot_retention", series("demo.yaml", "no-replay", "mixture")),
    Finding("merged weights keep at least as much", "zero_shot_retention", series("demo.yaml", "mixture", "merged")),
    Finding("a lower rate keeps at least as much", "zero_shot_retention", series("demo/learning_rates.yaml", *RATES)),
    Finding("more weight on the past keeps more", "zero_shot_retention", series("merge_weights.yaml", *PAST)),
    Finding("more weight on the past learns less", "knowledge_accumulation", series("merge_weights.yaml", *PAST[::-1])),
    Finding(
        "joint training learns at least as much", "knowledge_accumulation",
        (("demo.yaml", "mixture"), ("demo/joint.yaml", "joint")),
    ),
    Finding(
        "fewer, larger updates balance at least as well", "geometric_mean",
        (("demo/steps_10.yaml", "mixture"), ("demo.yaml", "mixture"), ("demo/steps_2.yaml", "mixture")),
    ),
)  # fmt: skip


def final_scores(config: str, seed: int) -> Scores:
    """Run one experiment with `evergreen run` and return the summary of every recipe after its last step."""
    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", str(CONFIGS / config)]
    done = subprocess.run([*command, "--seed", str(seed), "--json"], stdout=subprocess.PIPE, check=True)
    return {recipe["name"]: recipe["steps"][-1] for recipe in json.loads(done.stdout)["recipes"]}


def holds(values: list[float]) -> bool:
    """Whether the values never fall."""
    return all(low <= high for low, high in pairwise(values))


def table(findings: tuple[Finding, ...], seeds: list[int], scores: Callable[[str, int], Scores]) -> str:
    """Markdown: one row per finding, the values of every seed in the order of the claim, and how often it holds."""
    lines = [f"| finding | measure | recipes | {' | '.join(f'seed {seed}' for seed in seeds)} | holds |"]
    lines.append("|---|---|---" + "|---" * len(seeds) + "|---|")
    for finding in findings:
        values = [[scores(c, seed)[recipe][finding.measure] for c, recipe in finding.series] for seed in seeds]
        recipes = " → ".join(f"`{Path(config).stem}/{recipe}`" for config, recipe in finding.series)
        shown = " | ".join(" → ".join(f"{value:.3f}" for value in row) for row in values)
        count = sum(map(holds, values))
        lines.append(f"| {finding.claim} | {finding.measure} | {recipes} | {shown} | {count} of {len(seeds)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run what is missing, print the table and write it into the file."""
    given = parsed(__doc__)
    known: dict[tuple[str, int], Scores] = {}

    def scores(config: str, seed: int) -> Scores:
        if (config, seed) not in known:
            known[config, seed] = final_scores(config, seed)
        return known[config, seed]

    text = table(FINDINGS, given.seeds, scores)
    print(text)
    if given.output:
        replace_part(given.output, text)


def parsed(about: str | None) -> argparse.Namespace:
    """The seeds to run and the file to write, from the command line of a benchmark that says `about` itself."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, help="a markdown file whose part between the two marks is replaced")
    return parser.parse_args()


def record_of(config: Path, seed: int) -> "ExperimentRecord":
    """The finished experiment of a file and a seed, run if it is not done yet."""
    from flows.experiment import load  # here, since benchmarks of memory import this file too
    from models.evaluation.record import find_record, run_name

    command = [sys.executable, "-c", "from flows.cli import main; main()", "run", str(config), "--seed", str(seed)]
    subprocess.run([*command, "--json"], stdout=subprocess.DEVNULL, check=True)
    return find_record(run_name(load(config).name, seed))


def replace_part(path: Path, text: str) -> None:
    """Put `text` between the marks of a file; raises ValueError if it lacks them."""
    before, begin, rest = path.read_text().partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->")
    if not begin or not end:
        raise ValueError(f"{path} lacks the lines <!-- table --> and <!-- end of table -->; add them where it belongs")
    path.write_text(f"{before}{begin}{text}{end}{after}")


if __name__ == "__main__":
    main()
