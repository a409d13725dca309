"""Commands on streams."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli_common import Json, print_json

if TYPE_CHECKING:
    from data_catalog.mixture import Mixture

app = typer.Typer()


@app.command()
def compose(
    stream: Annotated[Path, typer.Option(exists=True, help="A JSON list of NAME+++classname, also gzipped.")],
    steps: Annotated[int | None, typer.Option(min=1, help="Default 20; for another cut as many as it makes.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 512,
    mixture: Annotated[
        str, typer.Option(help="Shares of pretraining, update and buffer, or the name of a preset.")
    ] = "paper",
    cut: Annotated[str, typer.Option(help="equal, by_dataset or by_year.")] = "equal",
    json_output: Json = False,
) -> None:
    """Cut a stream file into steps and batches, without images.

    Example: evergreen compose --stream random_sequence_1.json --steps 20 --mixture iidify --json
    """
    from data_catalog.cutting import CUTS
    from data_catalog.outline import outline
    from flows.tables import show_rows

    if cut not in CUTS:
        raise ValueError(f"--cut is {cut!r}, expected one of {', '.join(CUTS)}")
    counted = 20 if steps is None and cut == "equal" else steps
    rows = outline(stream, counted, batch_size, _mixture(mixture), cut)
    if json_output:
        print_json({"steps": rows})
    else:
        show_rows(str(stream), [{**row, "datasets": len(row["datasets"])} for row in rows])


def _mixture(text: str) -> "Mixture":
    """Three shares, or the name of a preset."""
    from data_catalog.mixture import POOLS, PRESETS, Mixture

    if text in PRESETS:
        return Mixture.model_validate(text)
    try:
        shares = dict(zip(POOLS, map(float, text.split(",")), strict=True))
    except ValueError:
        raise ValueError(
            f"--mixture is {text!r}, expected three shares: pretraining,update,buffer such as .33,.34,.33, "
            f"or one of {', '.join(PRESETS)}"
        ) from None
    return Mixture(**shares)
