"""What the commands share: options, exit codes, and how results are printed."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

BAD_INPUT, INTERRUPTED = 2, 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of tables.")]
Seed = Annotated[
    int | None, typer.Option(min=0, help="Replace the seed of the experiment (and of its synthetic data).")
]
Config = Annotated[Path, typer.Argument(help="An experiment, e.g. flows/configs/demo.yaml.")]


def counts(stages: Any) -> dict[str, int]:
    """How many stages a run executed and re-used."""
    return {"executed": len(stages.executed), "reused": len(stages.reused)}


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(document))


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[str, float], None] | None]:
    """A bar on stderr while work goes on, if somebody looks; called with what is done, and which share of it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def summaries(record: Any) -> dict:
    """The summaries of an experiment's recipes and of its first weights, as commands print them."""
    return {
        "recipes": [
            {"name": recipe.name, "steps": [step.summary.model_dump() for step in recipe.steps]}
            for recipe in record.recipes
        ],
        "zero_shot": record.zero_shot_summary.model_dump(exclude={"step"}),
    }
