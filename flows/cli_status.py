"""`evergreen status`: what this home holds, how its living streams are, and what needs a look."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows import environment
from flows.cli_common import Json, print_json

if TYPE_CHECKING:
    from flows.stream_status import StreamStatus

app = typer.Typer()


@app.command()
def status(
    stream: Annotated[str | None, typer.Argument(help="Only this living stream; by default all, and the rest.")] = None,
    scan: Annotated[bool, typer.Option("--scan/--no-scan", help="List the sources to see what waits.")] = True,
    json_output: Json = False,
) -> None:
    """Say what is live, what arrived and waits, what the gate said and what runs next; and what else this home holds.

    Example: evergreen status --json
    """
    environment.configure()
    from flows.status import known_streams, status_of_home

    names = known_streams(stream)
    streams = _streams(names, scan)
    if stream is not None:
        found = {"streams": [each.model_dump(mode="json") for each in streams]}
    else:
        found = status_of_home() | {"streams": [each.model_dump(mode="json") for each in streams]}
    if json_output:
        print_json(found)
        return
    _show(streams)
    if stream is None:
        _show_home(found)


def _streams(names: list[str], scan: bool) -> list["StreamStatus"]:
    if not names:
        return []  # without any, seconds of imports are spared
    from flows.stream_status import stream_status

    return [stream_status(name, scan) for name in names]


def _show(streams: list["StreamStatus"]) -> None:
    if not streams:
        return
    from flows.status_page import lines

    for each in streams:
        typer.echo("\n".join(lines(each)))


def _show_home(found: dict) -> None:
    from flows.tables import show_rows

    for title, shown in (("experiments", found["experiments"]), ("datasets", [*map(_short, found["datasets"])])):
        if shown:
            show_rows(title, shown)
        else:
            typer.echo(f"no {title} yet; `evergreen demo` makes some")
    parts = ("home", "artifacts", "store_megabytes", "free_gigabytes", "unfinished_updates")
    typer.echo("\n".join(f"{name}: {found[name]}" for name in parts))


def _short(dataset: dict) -> dict:
    """A dataset in a line as wide as a terminal."""
    splits = ", ".join(f"{count} {split}" for split, count in dataset["samples"].items())
    return dataset | {"digest": dataset["digest"][7:15], "samples": splits}
