"""`evergreen doctor`: whether this machine, its environment and a configuration fit, before a run finds out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import environment
from flows.cli_common import Json, print_json

if TYPE_CHECKING:
    from flows.doctor.findings import Finding

app = typer.Typer()
MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="An experiment or a living stream, whose sources and needs are looked at too.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Look at versions, places, servers, GPUs and clocks, and say what to change; exit code 1 if a run would fail.

    Example: evergreen doctor mine.yaml
    """
    environment.configure()
    from flows.doctor.examination import examine
    from flows.doctor.findings import Asked

    findings = examine(Asked(dict(os.environ), _loaded(config)))
    counts = {state: sum(each.state == state for each in findings) for state in MARKS}
    if json_output:
        print_json({"findings": [each.model_dump() for each in findings], **counts})
    else:
        typer.echo("\n".join(line for each in findings for line in _lines(each)))
        typer.echo(f"\n{counts['ok']} fine, {counts['warn']} to look at, {counts['fail']} that stop a run")
    if counts["fail"]:
        raise typer.Exit(1)


def _loaded(config: Path | None):
    if config is None:
        return None
    from flows.experiment import load

    return load(config)


def _lines(finding: "Finding") -> list[str]:
    head = f"{MARKS[finding.state]}  {finding.name}: {finding.found}"
    rest = (("expected", finding.expected), ("do", finding.do))
    return [head, *(f"      {name}: {text}" for name, text in rest if text)]
