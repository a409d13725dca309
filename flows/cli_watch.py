"""The commands about data that arrives: look what waits and have the step taken, or tell a server of it."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import environment
from flows.cli_common import Config, Json, print_json

if TYPE_CHECKING:
    from flows.living_config import LivingConfig

app = typer.Typer()
Deployment = Annotated[
    str | None, typer.Option(help="Of living-stream; by default the one called like the stream, or the only one.")
]


@app.command()
def watch(
    config: Config,
    once: Annotated[bool, typer.Option("--once", help="Look once and end, as a schedule would.")] = False,
    every: Annotated[float, typer.Option(min=1, help="Seconds between two looks.")] = 60,
    deployment: Deployment = None,
    json_output: Json = False,
) -> None:
    """Look what has arrived for a living stream, and have the step taken once there is enough.

    A deployment of `living-stream` takes it where a server has one, else this process does.

    Example: evergreen watch flows/configs/living.yaml --every 300
    """
    environment.open_home()
    while True:
        _look(config, deployment, json_output, once)
        if once:
            return
        time.sleep(every)


@app.command()
def notify(
    stream: Annotated[str, typer.Argument(help="The file of a living stream, or its name once it has made a step.")],
    json_output: Json = False,
) -> None:
    """Tell the Prefect server that data arrived: an event that starts `living-stream`, once for the same data.

    Example: evergreen notify flows/configs/living.yaml
    """
    environment.open_home()
    from flows.arriving import configured, look
    from flows.handing_over import EVENT, announce, server

    config, path = configured(stream)
    waiting = look(config)
    if waiting.verdict == "nothing new":
        event, said = None, f"{waiting.stream}: nothing to tell: {waiting.why}"
    elif url := server():
        event = announce(url, waiting, path)
        said = f"{waiting.stream}: {waiting.why}; told the server as {EVENT}, id {event}"
    else:
        raise ValueError(
            f"{waiting.stream}: {waiting.why}, and no Prefect server runs that could be told: start `evergreen ui`, "
            f"set PREFECT_API_URL, or take the step here with `evergreen watch {path or 'CONFIG'} --once`"
        )
    if json_output:
        print_json({"event": event, **waiting.model_dump(mode="json")})
    else:
        typer.echo(said)


def _look(config: Path, deployment: str | None, json_output: bool, once: bool) -> None:
    """One look; between many, a source or a server that is away for the moment is said and waited for."""
    from flows.handing_over import said_of, watch_once

    try:
        watched = watch_once(str(config.resolve()), deployment, _run_here)
    except (ValueError, OSError) as error:
        if once:
            raise
        print(f"evergreen: {error}; the next look tries again", file=sys.stderr, flush=True)
        return
    if json_output:
        print_json(watched.model_dump(mode="json"))
    else:
        typer.echo(f"{watched.waiting.stream}: {said_of(watched)}")


def _run_here(config: "LivingConfig", now: bool) -> dict:
    from flows.console import watching
    from flows.server import api

    with api(), watching(quiet=True):
        from flows.living import living_stream

        return living_stream(config, now).model_dump(mode="json")
