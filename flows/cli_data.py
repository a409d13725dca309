"""Commands on what comes in: sources, datasets, their metadata."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows import environment
from flows.cli_common import BAD_INPUT, Config, Json, counts, print_json

app = typer.Typer()
metadata_app = typer.Typer(help="Caption and metadata files of the benchmark.", no_args_is_help=True)
app.add_typer(metadata_app, name="metadata")


@app.command()
def ingest(config: Config, json_output: Json = False) -> None:
    """Fill the catalog from the sources of an experiment; on unchanged data nothing is written.

    Example: evergreen ingest flows/configs/demo.yaml
    """
    environment.open_home()
    from flows.console import watching
    from flows.experiment import load
    from flows.server import api
    from flows.tables import show_rows

    experiment = load(config)
    with api(), watching(quiet=json_output) as stages:
        from flows.ingest import ingest as flow

        news = flow(experiment).is_news
    from data_catalog import catalog

    rows, refused = catalog.summary(), catalog.quarantined()
    if json_output:
        print_json({"datasets": rows, "quarantine": refused, "catalog_written": news, "stages": counts(stages)})
        return
    show_rows("catalog", rows)
    if refused:
        show_rows(f"quarantine, {len(refused)} refused, the first 20", refused[:20])
    typer.echo(f"{stages.summary()}; the catalog was {'written' if news else 'left untouched'}")


@metadata_app.command("check")
def check_metadata(files: Annotated[list[Path], typer.Argument(exists=True)]) -> None:
    """Check caption/metadata files (JSON, also gzipped); prints one JSON line each, exits with 2 if one is unreadable.

    Example: evergreen metadata check MNIST_train.json FSCOCO_test.json.gz
    """
    from data_catalog.metadata import check_metadata as check

    unreadable = False
    for file in files:
        try:
            result = check(file)
        except ValueError as error:
            unreadable = True
            nothing = dict.fromkeys(("entries", "with_training_text", "template_mismatches"), 0)
            result = {"file": str(file), **nothing, "problems": [str(error)]}
        typer.echo(json.dumps(result))
    if unreadable:
        raise typer.Exit(BAD_INPUT)
