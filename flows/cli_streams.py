"""Commands on streams."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()


@app.command()
def compose(
    stream: Annotated[Path, typer.Option(exists=True, help="A JSON list of NAME+++classname, also gzipped.")],
    steps: Annotated[int, typer.Option(min=1)] = 20,
    batch_size: Annotated[int, typer.Option(min=1)] = 512,
    mixture: Annotated[str, typer.Option(help="Shares of pretraining, update and buffer.")] = ".33,.34,.33",
    json_output: Json = False,
) -> None:
    """Cut a stream file into steps and batches, without images.

    Example: evergreen compose --stream random_sequence_1.json --steps 20 --json
    """
    from data_catalog.mixture import Mixture
    from data_catalog.stream import outline
    from flows.tables import show_rows

    shares = mixture.split(",")
    if len(shares) != 3:
        raise ValueError(
            f"--mixture is {mixture!r}, expected three shares: pretraining,update,buffer such as .33,.34,.33"
        )
    parsed = Mixture(**dict(zip(("pretraining", "update", "buffer"), map(float, shares), strict=True)))
    rows = outline(stream, steps, batch_size, parsed)
    if json_output:
        print_json({"steps": rows})
    else:
        show_rows(str(stream), [{**row, "datasets": len(row["datasets"])} for row in rows])
