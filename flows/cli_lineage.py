"""Commands on what made a checkpoint, and what a sample helped to make."""

import json
from typing import Annotated

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()


@app.command()
def trace(
    name: Annotated[str, typer.Argument(help="A checkpoint (sha256:...) or a sample (<DATASET>/<split>/<key>).")],
    json_output: Json = False,
) -> None:
    """Say what made a checkpoint, or which checkpoints saw a sample.

    Example: evergreen trace DIGITS/train/seven/00012.png --json
    """
    from data_catalog import catalog, store
    from flows.tables import show_rows

    is_checkpoint = name.startswith("sha256:")
    rows = catalog.samples_of_checkpoint(name) if is_checkpoint else catalog.checkpoints_with_sample(name)
    made = store.origins(name) if is_checkpoint else []
    if not rows and not made:
        raise ValueError(
            f"nothing is recorded of {name!r}: give a digest as in the report's lineage, or the id of a sample"
        )
    if json_output:
        print_json({"origins": made, "samples" if is_checkpoint else "checkpoints": rows})
        return
    for origin in made:
        typer.echo(json.dumps(origin, indent=1))
    if rows:
        show_rows(name, rows)
