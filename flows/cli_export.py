"""Commands on what leaves the store: models for other programs, the registry, and whether all of it is intact."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()


@app.command()
def export(
    what: Annotated[str, typer.Argument(help="A living stream, for what is live in it, or a checkpoint (sha256:...).")],
    output: Annotated[Path, typer.Option(help="The folder to write; new or empty.")],
    layout: Annotated[str, typer.Option(help="open_clip or hugging_face (for CLIP and SigLIP of transformers).")] = (
        "open_clip"
    ),
    entry: Annotated[int | None, typer.Option(min=0, help="Of a stream: this entry of its ledger instead.")] = None,
    json_output: Json = False,
) -> None:
    """Write weights as a folder that OpenCLIP or transformers loads, with its model card.

    Example: evergreen export shop --output models/shop --layout hugging_face
    """
    from flows.exporting import exported

    done = exported(what, output, layout, entry)
    if json_output:
        print_json(done)
        return
    typer.echo(f"{done['checkpoint'][:19]} lies in {done['output']}: {', '.join(done['files'])}")


@app.command()
def verify(
    stream: Annotated[str | None, typer.Argument(help="Only what this living stream names.")] = None,
    json_output: Json = False,
) -> None:
    """Hash again whatever the ledgers, records and results name; exit code 1 if a live model lacks anything.

    Example: evergreen verify
    """
    from flows.verifying import verify as look

    found = look(stream)
    if json_output:
        print_json(found.model_dump(mode="json") | {"is_sound": found.is_sound})
    else:
        _show_findings(found)
    if not found.is_sound:
        raise typer.Exit(1)


@app.command()
def registry(
    stream: Annotated[str, typer.Argument(help="A living stream.")],
    json_output: Json = False,
) -> None:
    """Make MLflow agree with the ledgers of a stream: the versions of its model, `champion`, and a run per step.

    Example: evergreen registry shop
    """
    from flows.arriving import configured
    from models.living import finished
    from tasks.registry import CHAMPION, agree
    from tasks.tracking import log_life

    done = agree(stream)
    if digests := finished(stream):
        config, _ = configured(stream)
        log_life(stream, config.seed, config.recipe_name, digests)
    if json_output:
        print_json(done.model_dump(mode="json"))
        return
    typer.echo(f"{stream}: {len(done.versions)} versions in MLflow, version {done.champion} is {CHAMPION}")
    for what, numbers in (
        ("added", done.added), ("written anew", done.repaired), ("not of the ledger", done.unknown),
        ("entries of the ledger without a version, since housekeeping let their weights go", done.gone),
    ):  # fmt: skip
        if numbers:
            typer.echo(f"{what}: {', '.join(str(number) for number in numbers)}")


def _show_findings(found) -> None:
    past = [finding for finding in found.findings if finding.state == "missing" and not finding.live]
    for finding in (finding for finding in found.findings if finding not in past):
        what = finding.what[:19] if finding.what.startswith("sha256:") else finding.what
        typer.echo(f"{'LIVE: ' if finding.live else ''}{what} is {finding.state}; needed by {finding.needed_by}")
        typer.echo(f"    {finding.remedy}")
    if past:
        typer.echo(
            f"{len(past)} artifacts of the past are gone: let go by `evergreen gc`, or lost; --json says who names them"
        )
    streams = f"; streams: {', '.join(found.streams)}" if found.streams else ""
    said = "all is intact" if not found.findings else "what is live is intact" if found.is_sound else (
        "WHAT IS LIVE IS NOT INTACT"
    )  # fmt: skip
    typer.echo(f"{found.artifacts} artifacts named, {found.megabytes} MB read: {said}{streams}")
