"""What a person sees in the terminal while a flow runs."""

import contextlib
import logging
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from data_catalog.outage import Outage
from data_catalog.store import MissingArtifact
from models.evaluation.record import StageRecord
from tasks.journal import ALWAYS, journal
from tasks.progress import listening

SAID_BY_US = (ValueError, MissingArtifact, Outage)  # the command ends with their message as its last line
_OF_A_FAILURE = ("Finished in state Failed(", "Failed to write result: Failed to serialize object of type ")


class Stages:
    """Counts what a run executed and re-used, and shows it as it happens."""

    def __init__(self, console: Console):
        self.console = console
        self.records: list[StageRecord] = []

    @property
    def executed(self) -> list[StageRecord]:
        """Stages whose work was done in this run; those that run every time are not counted."""
        return [record for record in self.records if not record.reused and record.reason != ALWAYS]

    @property
    def reused(self) -> list[StageRecord]:
        """Stages whose result was known."""
        return [record for record in self.records if record.reused]

    def tell(self, record: StageRecord) -> None:
        """Keep `record` and print it, unless it is one of those that run every time."""
        self.records.append(record)
        if record.reason != ALWAYS:
            what = "re-used" if record.reused else "ran    "
            style = "dim" if record.reused else "default"
            self.console.print(
                f"{what} {record.label:<44} {record.seconds:6.1f} s  {record.reason}",
                style=style,
                highlight=False,
                markup=False,
            )

    def summary(self) -> str:
        """One sentence on what was done and what was not done again."""
        return f"{len(self.executed)} stages executed, {len(self.reused)} re-used"


@contextlib.contextmanager
def watching(quiet: bool = False) -> Iterator[Stages]:
    """Show stages and the progress of long ones on stderr while the block runs, so that stdout holds results alone."""
    console = Console(stderr=True, quiet=quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn(), TextColumn("{task.fields[note]}"))  # fmt: skip
    stages = Stages(console)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        running: dict[str, int] = {}

        def advance(label: str, done: int, total: int, note: str) -> None:
            if label not in running:
                running[label] = bars.add_task(label, total=total, note=note)
            bars.update(running[label], completed=done, note=note)
            if done == total:
                bars.remove_task(running.pop(label))

        with journal(stages.tell), listening(advance), saying_once():
            yield stages


@contextlib.contextmanager
def saying_once() -> Iterator[None]:
    """Keep Prefect's tracebacks of what a command says in one line off the terminal; the pages of the run have them."""
    import prefect.main  # noqa: F401 gives the root logger its handlers

    handlers = logging.getLogger().handlers
    for handler in handlers:
        handler.addFilter(_is_news)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether nothing else says what Prefect's engine says of a run that failed."""
    if not record.name.startswith(("prefect.flow_runs", "prefect.task_runs")):
        return True
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, SAID_BY_US) and not record.getMessage().startswith(_OF_A_FAILURE)
