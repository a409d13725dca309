"""The command that puts the flows on a Prefect server."""

from pathlib import Path
from typing import Annotated

import typer

from flows import environment
from flows.cli_common import Json, print_json

app = typer.Typer()


@app.command()
def deploy(
    configs: Annotated[
        list[Path] | None, typer.Argument(help="Living streams and experiments that get deployments of their own.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="One work pool for everything, for a machine with a single worker.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="How many runs train at once: GPUs that workers have, in all.")] = 1,
    json_output: Json = False,
) -> None:
    """Make the work pools, limits and deployments of prefect.yaml on the Prefect server; again after every change.

    Example: evergreen deploy mine.yaml
    """
    environment.open_home()
    from flows.deploying import deploy as put

    done = put([str(path) for path in configs or ()], pool, gpus)
    if json_output:
        print_json(done.model_dump())
        return
    typer.echo(
        f"{len(done.deployments)} deployments on {done.server}; their schedules are paused until you resume them"
    )
    typer.echo("next, in a terminal each:")
    for name in done.pools:
        typer.echo(f"  PREFECT_API_URL={done.server} prefect worker start --pool {name}")
