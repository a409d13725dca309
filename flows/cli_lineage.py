"""Commands on what made a checkpoint, what a sample helped to make, and what later plans must leave out."""

import json
from typing import Annotated, Any

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()
catalog_app = typer.Typer(help="The catalog: ask it in SQL, make it again from the store.", no_args_is_help=True)
app.add_typer(catalog_app, name="catalog")
OtherPlace = Annotated[
    str, typer.Argument(metavar="PLACE", help="A DuckDB file, or a DuckLake as EVERGREEN_CATALOG would name it.")
]
OtherData = Annotated[str | None, typer.Option(help="Where a DuckLake's files lie: a folder or s3:// URL.")]


@app.command()
def lineage(
    name: Annotated[
        str,
        typer.Argument(
            help="A checkpoint (sha256:...), a step (<stream>/<recipe>/<step>), a dataset, "
            "or a sample (<DATASET>/<split>/<key>)."
        ),
    ],
    texts: Annotated[int, typer.Option(min=0, help="How many captions to list, the most frequent first.")] = 20,
    json_output: Json = False,
) -> None:
    """Say what made a checkpoint or a step, or which steps and checkpoints saw a dataset or a sample.

    Example: evergreen lineage DIGITS/train/seven/00012.png --json
    """
    from data_catalog.lineage import about

    found = about(name, texts)
    if json_output:
        print_json(found)
        return
    for part, value in found.items():
        _show(part, value)


@app.command()
def forget(
    sample: Annotated[list[str] | None, typer.Option(help="The id of a sample; can be given more than once.")] = None,
    dataset: Annotated[str | None, typer.Option(help="All samples of a dataset, as far as they are known now.")] = None,
    where: Annotated[str | None, typer.Option(help="A condition in SQL on the table `samples` of the catalog.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the ledger.")] = None,
    with_copies: Annotated[bool, typer.Option("--with-copies", help="Also all samples with the same bytes.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the removal back.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would mean.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    list_all: Annotated[bool, typer.Option("--list", help="Show every removal and what was taken back.")] = False,
    json_output: Json = False,
) -> None:
    """Leave samples out of every later plan, and say which steps and checkpoints saw them.

    Example: evergreen forget --dataset DIGITS --reason "licence withdrawn" --dry-run
    """
    from data_catalog.removal import Request

    if list_all:
        _show_removals(json_output)
        return
    request = Request(samples=tuple(sample or ()), dataset=dataset, where=where)
    if not dry_run and not reason:
        raise ValueError("--reason is missing: say why, it is kept in the ledger (or look first with --dry-run)")
    if json_output and not (yes or dry_run or undo):
        raise ValueError("--json cannot ask; give --yes, or look first with --dry-run")
    if undo:
        _restore(request, reason or "", dry_run, json_output)
    else:
        _forget(request, reason or "", with_copies, dry_run, yes, json_output)


@catalog_app.command("query")
def query_catalog(
    sql: Annotated[str, typer.Argument(help="One SELECT; `SHOW TABLES` lists the tables and views.")],
    json_output: Json = False,
) -> None:
    """Ask the catalog in SQL; nothing can be written.

    Example: evergreen catalog query "SELECT dataset, count(*) AS samples FROM samples GROUP BY ALL ORDER BY ALL"
    """
    from data_catalog.catalog import query

    rows = query(sql)
    if json_output:
        print(json.dumps(rows, default=_plain))
    else:
        _show(f"{len(rows)} rows", rows, limit=len(rows))


@catalog_app.command("rebuild")
def rebuild_catalog(json_output: Json = False) -> None:
    """Make the catalog again from what the store says was recorded; the former file is kept beside it.

    A DuckLake keeps what it was as a snapshot.

    Example: evergreen catalog rebuild
    """
    from data_catalog.catalog_place import place
    from data_catalog.rebuild import rebuild

    done = rebuild()
    if json_output:
        print_json(done.model_dump(mode="json"))
        return
    counted = ", ".join(f"{count} of {what}" for what, count in done.entered.items()) or "none"
    kept = f"; {done.kept} is as it was" if done.kept else ""
    typer.echo(f"{place()} is made from the records of the store: {counted}{kept}")
    for line in done.lost:
        typer.echo(f"not entered: {line}", err=True)


@catalog_app.command("export")
def export_catalog(place: OtherPlace, data: OtherData = None, json_output: Json = False) -> None:
    """Copy the whole catalog to another place, which must be empty or hold the same; checksums are compared.

    Example: evergreen catalog export backup.duckdb
    """
    from data_catalog import catalog_place
    from data_catalog.catalog_copy import copy

    _show_copied(copy(catalog_place.place(), catalog_place.parsed(place, data)), json_output)


@catalog_app.command("import")
def import_catalog(place: OtherPlace, data: OtherData = None, json_output: Json = False) -> None:
    """Copy a whole catalog from another place to this one, which must be empty or hold the same.

    Example: evergreen catalog import var/catalog.duckdb
    """
    from data_catalog import catalog_place
    from data_catalog.catalog_copy import copy

    _show_copied(copy(catalog_place.parsed(place, data), catalog_place.place()), json_output)


def _show_copied(done: Any, json_output: bool) -> None:
    if json_output:
        print_json(done.model_dump(mode="json"))
        return
    _show("tables", [{"table": name, "rows": count.rows} for name, count in done.tables.items()], len(done.tables))
    said = "held the same already" if done.was_there else "has all of it, by row counts and checksums"
    typer.echo(f"{done.target} {said}: {done.source}")


def _forget(request: Any, reason: str, with_copies: bool, dry_run: bool, yes: bool, json_output: bool) -> None:
    from data_catalog import removal

    ids = removal.matching(request)
    if with_copies:
        ids = sorted({*ids, *removal.copies(ids)})
    found = {"samples": ids, **removal.affected(ids), "decision": None}
    if not json_output:
        _show_impact(found)
    if not dry_run:
        if not yes:
            typer.confirm(f"Leave {len(ids)} samples out of every later plan?", abort=True)
        made = removal.forget(ids, reason, request.rule + " --with-copies" * with_copies)
        found["decision"] = made.model_dump(exclude={"samples"})
    if json_output:
        print_json(found)
    elif not dry_run:
        typer.echo(
            f"decision {found['decision']['number']}: plans from now on leave {len(ids)} samples out; "
            "checkpoints stay as they are until they are trained again"
        )


def _restore(request: Any, reason: str, dry_run: bool, json_output: bool) -> None:
    from data_catalog import removal

    ids = removal.forgotten(request)
    made = None if dry_run else removal.restore(ids, reason, request.rule).model_dump(exclude={"samples"})
    if json_output:
        print_json({"samples": ids, "decision": made})
    else:
        typer.echo(f"{len(ids)} samples {'would be' if dry_run else 'are'} let into plans again")


def _show_removals(json_output: bool) -> None:
    from data_catalog import decisions

    made = [decision for decision in decisions.decisions() if decision.kind.endswith("forget")]
    if json_output:
        forgotten = decisions.in_force("forget")
        print_json({"decisions": [decision.model_dump(mode="json") for decision in made], "forgotten": forgotten})
        return
    rows = [{**decision.model_dump(exclude={"samples"}), "samples": len(decision.samples)} for decision in made]
    _show("removals", rows)


def _show_impact(found: dict) -> None:
    _show("samples", [{"sample": name} for name in found["samples"]])
    _show("steps that drew them", found["steps"])
    for how, digests in found["checkpoints"].items():
        _show(f"checkpoints that carry them, {how}", [{"checkpoint": digest} for digest in digests])
    _show("other samples with the same bytes (--with-copies takes them too)", [{"sample": n} for n in found["copies"]])


def _show(title: str, value: Any, limit: int = 20) -> None:
    """One part of an answer: a table for rows, a line for anything else."""
    from flows.tables import show_rows

    if not isinstance(value, list):
        typer.echo(f"{title}: {json.dumps(value, default=_plain)}" if value is not None else f"{title}: unknown")
    elif title == "origins":
        for origin in value:
            typer.echo(json.dumps(origin, indent=1))
    elif value:
        rows = [row if isinstance(row, dict) else {title: row} for row in value]
        more = f", the first {limit} of {len(rows)}; all with --json" if len(rows) > limit else ""
        show_rows(f"{title}{more}", rows[:limit])
    else:
        typer.echo(f"{title}: none")


def _plain(value: Any) -> str:
    """Values of the catalog that JSON has no form for: bytes in hexadecimal, times in ISO."""
    return value.hex() if isinstance(value, bytes) else str(value)
