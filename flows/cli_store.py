"""The commands about the store as a whole."""

from typing import Annotated

import typer

from flows.cli_common import Json, print_json, progress_bar

app = typer.Typer()
store_app = typer.Typer(help="The store: move it to another place.", no_args_is_help=True)
app.add_typer(store_app, name="store")


@store_app.command("copy")
def copy_store(
    target: Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or s3://, gs:// or az://.")],
    results: Annotated[str | None, typer.Option(help="Copy the result records too, to this place.")] = None,
    json_output: Json = False,
) -> None:
    """Copy the whole store to another place: artifacts, ledgers, pointers. Set EVERGREEN_STORE to it afterwards.

    Example: evergreen store copy s3://bucket/evergreen/store --results s3://bucket/evergreen/results
    """
    from data_catalog.disk import spoken
    from data_catalog.store_copy import Place, copy

    with progress_bar("looking") as progress:
        done = copy(Place(target, results), progress)
    if json_output:
        print_json(done.model_dump(mode="json"))
    else:
        entries = ", ".join(f"{name} {count}" for name, count in done.ledgers.items()) or "none"
        records = "" if done.results is None else f"; {done.results} result records"
        typer.echo(f"{done.target} has {done.artifacts} artifacts ({spoken(done.size)}) of {done.source}; "
                   f"entries of ledgers: {entries}{records}")  # fmt: skip
        for line in done.lost:
            typer.echo(f"not copied: {line}", err=True)
    if done.lost:
        raise typer.Exit(1)
