"""The command on pictures that are there more than once."""

from typing import Annotated

import typer

from flows import environment
from flows.cli_common import Config, Json, counts, print_json

SHOWN_PAIRS = 40  # of places; the JSON document holds all

app = typer.Typer()


@app.command()
def duplicates(
    config: Config,
    checkpoint: Annotated[
        str | None, typer.Option(help="Compare embeddings too: `pretrained`, a digest, or <recipe>/<step>.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(help="Cosine of two embeddings from which on they are duplicates.")
    ] = 0.95,
    distance: Annotated[int, typer.Option(help="Bits of 64 in which two perceptual hashes may differ.")] = 4,
    dataset: Annotated[list[str] | None, typer.Option(help="Search these alone; may be repeated.")] = None,
    shown: Annotated[int, typer.Option("--examples", min=0, help="Groups of each kind to show.")] = 10,
    json_output: Json = False,
) -> None:
    """Find pictures that are there more than once, within and across datasets, training and evaluation sets.

    Example: evergreen duplicates flows/configs/demo.yaml --checkpoint pretrained --threshold 0.97
    """
    environment.open_home()
    from data_catalog.duplicates import DuplicateSearch
    from flows.console import watching
    from flows.experiment import load
    from flows.server import api

    kinds = ("exact", "perceptual") + (() if checkpoint is None else ("embedding",))
    search = DuplicateSearch(
        kinds=kinds, perceptual_distance=distance, similarity=threshold, checkpoint=checkpoint or "pretrained",
        datasets=tuple(dataset) if dataset else None,
    )  # fmt: skip
    experiment = load(config)
    with api(), watching(quiet=json_output) as stages:
        from flows.duplicates import duplicates as flow

        found = flow(experiment, search)
    document = _document(found, shown)
    if json_output:
        print_json(document | {"stages": counts(stages)})
    else:
        _show(document)


def _document(found: list, shown: int) -> dict[str, list[dict]]:
    from data_catalog.duplicate_overview import examples, overlaps, overview

    return {
        "tables": [{"digest": groups.digest, "kinds": list(groups.groups)} for groups in found],
        "kinds": [row for groups in found for row in overview(groups)],
        "overlaps": [row for groups in found for row in overlaps(groups)],
        "examples": [row for groups in found for row in examples(groups, shown)],
    }


def _show(document: dict[str, list[dict]]) -> None:
    from flows.tables import show_rows

    compared = ("compared", "not_compared")
    show_rows("duplicates", [{k: v for k, v in row.items() if k not in compared} for row in document["kinds"]])
    for row in document["kinds"]:
        typer.echo(f"{row['kind']}: {row['compared']} samples compared, {row['not_compared']} could not be")
    if not document["overlaps"]:
        typer.echo("no picture is there twice")
        return
    most = sorted(document["overlaps"], key=lambda row: -row["groups"])[:SHOWN_PAIRS]
    show_rows(f"groups by where they lie, {len(most)} of {len(document['overlaps'])} pairs", most)
    if document["examples"]:
        show_rows("examples, those across places first", document["examples"])
