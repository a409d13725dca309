"""The command on differences of weights: how far checkpoints went from one another, and which way."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows.cli_common import Json, print_json, progress_bar

app = typer.Typer()
_COLUMNS = 6  # checkpoints that a table in a terminal has room for


@app.command()
def diff(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            help="Two or more, the origin first: *.safetensors files, digests (sha256:...), <recipe>/<step> or "
            "`pretrained` of a finished experiment."
        ),
    ],
    experiment: Annotated[
        str | None, typer.Option(help="Where steps are from; the only finished experiment by default.")
    ] = None,
    weights: Annotated[
        Literal["deployed", "expert"], typer.Option(help="Of a <recipe>/<step>: what was shipped, or trained.")
    ] = "deployed",
    plot: Annotated[Path | None, typer.Option(help="Also draw it: a page (.html), PNG, SVG or PDF.")] = None,
    json_output: Json = False,
) -> None:
    """Say how far each layer went from the first checkpoint to each other, and which way their task vectors point.

    Example: evergreen diff pretrained merged/0 merged/1 merged/2 --plot drift.html
    """
    if len(checkpoints) < 2:
        raise ValueError(f"found {len(checkpoints)} checkpoint, expected the origin and one or more that came from it")
    if plot is not None:
        from models.merging.drift_page import check_ending

        check_ending(plot)
    from models.merging.drift_tables import document, tables
    from models.merging.geometry import measure

    origin, *others = [_file(name, experiment, weights) for name in checkpoints]
    with progress_bar("comparing") as bar:
        geometry = measure(origin, others, bar and partial(bar, "comparing"))
    first, *names = short_names(checkpoints)
    if plot is not None:
        from models.merging.drift_page import write

        write(plot, geometry, first, names, tables(geometry, names, len(names)))
    if json_output:
        print_json({"origin": checkpoints[0], "checkpoints": checkpoints[1:], **document(geometry)})
        return
    for title, rows in tables(geometry, names, _COLUMNS).items():
        _show(title, rows)
    if plot is not None:
        typer.echo(f"plot: {plot}")


def short_names(checkpoints: Sequence[str]) -> list[str]:
    """What to call checkpoints in tables: digests by their beginning, files by as much of their end as differs.

    What is given twice is numbered, so that no two names are equal.
    """
    plain = [name.removeprefix("sha256:")[:12] if name.startswith("sha256:") else name for name in checkpoints]
    short = plain
    for parts in range(1, max(len(Path(name).parts) for name in plain) + 1):
        short = ["/".join(Path(name).with_suffix("").parts[-parts:]) if _is_file(name) else name for name in plain]
        if len(set(short)) == len(set(plain)):
            break
    before = [short[:place].count(name) for place, name in enumerate(short)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(short, before, strict=True)]


def _file(name: str, experiment: str | None, weights: str) -> Path:
    """The file of a checkpoint; raises ValueError saying what can be given for a name that is none."""
    from data_catalog.refs import is_digest
    from data_catalog.store import locate

    if is_digest(name):
        return locate(name)
    if Path(name).is_dir():
        raise ValueError(f"{name} is a folder; give the *.safetensors file in it")
    if _is_file(name):
        return Path(name)
    return locate(_digest(name, experiment, weights))


def _is_file(name: str) -> bool:
    return name.endswith(".safetensors") or Path(name).is_file()


def _digest(name: str, experiment: str | None, weights: str) -> str:
    from flows.status import only_experiment
    from models.evaluation.record import find_record

    if name != "pretrained" and not re.fullmatch(r"[^/]+/\d+", name):
        raise ValueError(
            f"{name!r} is no checkpoint: give a *.safetensors file, sha256:<64 hex digits>, <recipe>/<step> or "
            "`pretrained`"
        )
    chosen = experiment or only_experiment()
    record = find_record(chosen)
    steps = {f"{r.name}/{s.step}": getattr(s, weights) for r in record.recipes for s in r.trained}
    known = {"pretrained": record.pretrained, **steps}
    if name not in known:
        raise ValueError(f"no step {name!r} in {chosen}: give a *.safetensors file, or one of {', '.join(known)}")
    return known[name]


def _show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from models.merging.drift_tables import as_text

    table = Table(title=title, title_justify="left")
    for name, value in rows[0].items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows:
        table.add_row(*(as_text(value) for value in row.values()))
    Console().print(table)
