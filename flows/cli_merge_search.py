"""The command that chooses merges by validation images."""

from pathlib import Path
from typing import Annotated

import typer

from flows import environment
from flows.cli_common import Config, Json, Seed, print_json

app = typer.Typer()


@app.command("merge-search")
def merge_search(
    config: Config,
    recipe: Annotated[str | None, typer.Option(help="Of the experiment; the last by default.")] = None,
    step: Annotated[int | None, typer.Option(min=0, help="The last one merged; that of the stream by default.")] = None,
    search: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="YAML: kind grid or sampled, techniques.")
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(help="pair (with the running merge) or all (experts); by default as the recipe deploys."),
    ] = None,
    json_output: Json = False,
    seed: Seed = None,
) -> None:
    """Score candidate merges of a finished run on its validation images; no test image is looked at.

    Example: evergreen merge-search mine.yaml --recipe merged --search search.yaml
    """
    if over not in (None, "pair", "all"):
        raise ValueError(f"--over is {over!r}, expected pair or all")
    environment.open_home()
    from flows.console import watching
    from flows.experiment import load
    from flows.server import api
    from flows.tables import show_rows

    experiment = load(config, seed)
    with api(), watching(quiet=json_output):
        from flows.merge_search import merge_search as flow

        report = flow(experiment, recipe, step, None if search is None else str(search), over)
    if json_output:
        print_json(report.model_dump(mode="json"))
        return
    show_rows(f"merges at step {report.step} of {report.recipe}, on validation images", report.rows())
    typer.echo(f"best: {report.best.technique.model_dump_json()}\ncheckpoint: {report.best.checkpoint}")
