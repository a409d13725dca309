"""Results as tables in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.evaluation.record import ExperimentRecord
from models.evaluation.report import merge_rows, score_rows, verdict

NAME_WIDTH = 40  # columns of a terminal that the first column of a table may take for itself


def show_scores(record: ExperimentRecord) -> None:
    """Print the summary after every step, and the verdict."""
    table = Table(title=f"{record.name}, seed {record.seed}")
    table.add_column("recipe")
    for column in ("step", "knowledge accumulation", "zero-shot retention", "geometric mean"):
        table.add_column(column, justify="right")
    previous = None
    for row in score_rows(record):
        name, step, *values = row.values()
        if previous not in (None, name):
            table.add_section()
        table.add_row(
            escape(name) if name != previous else "",
            "-" if step < 0 else str(step),
            *(f"{value:.3f}" for value in values),
        )
        previous = name
    console = Console()
    console.print(table)
    if merge_rows(record):
        show_rows("the last merge, by weight on the past", merge_rows(record))
    for sentence in verdict(record):
        console.print(f"  {sentence}", highlight=False, markup=False)


def show_rows(title: str, rows: Sequence[dict]) -> None:
    """Print rows of one shape as a table."""
    table = Table(title=title)
    for place, (name, value) in enumerate(rows[0].items()):
        side = "right" if isinstance(value, int | float) else "left"
        is_short = max(len(str(row[name])) for row in rows) <= NAME_WIDTH
        table.add_column(name.replace("_", " "), justify=side, no_wrap=place == 0 and is_short, overflow="fold")
    for row in rows:
        table.add_row(*(f"{value:,.4f}" if isinstance(value, float) else escape(str(value)) for value in row.values()))
    Console().print(table)
