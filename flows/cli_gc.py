"""The command that makes room: what goes, what stays, and why."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()
ROWS = 30  # of each table


@app.command()
def gc(
    config: Annotated[Path | None, typer.Argument(help="A living stream, whose `living.keep` says what stays.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every living stream, by the configuration that it last ran under.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and why the rest stays.")] = False,
    json_output: Json = False,
) -> None:
    """Delete weights, plans and caches that nothing needs any more; safe beside runs at work.

    Example: evergreen gc living.yaml --dry-run
    """
    if (config is None) != everything:
        raise ValueError("name the file of one living stream, or give --all for every stream of this store")
    from flows.housekeeping import in_words, megabytes, policies_of
    from flows.tables import show_rows
    from models.housekeeping import keep_house

    done = keep_house(policies_of(None if config is None else str(config)), dry_run)
    if json_output:
        print_json(done.model_dump(mode="json"))
        return
    verb = "would go" if dry_run else "went"
    if done.going:
        more = f", the largest {ROWS} of {len(done.going)}; all with --json" if len(done.going) > ROWS else ""
        rows = [
            {verb: item.name.rpartition("/")[2][:19], "what": item.what, "size": megabytes(item.size), "why": item.why}
            for item in done.going[:ROWS]
        ]
        show_rows(f"{verb}{more}", rows)
    if done.staying:
        show_rows(
            "stays", [{"needed by": g.why, "artifacts": g.count, "size": megabytes(g.size)} for g in done.staying]
        )
    typer.echo(in_words(done))
