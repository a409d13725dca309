"""`evergreen compare`: recipes of several experiments side by side, at equal compute, with paired significance."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_common import Json, print_json
from flows.cli_report import Baselines, Joint, baselines_named, joint_named, tell_left_out

app = typer.Typer()


@app.command()
def compare(
    experiments: Annotated[
        list[str], typer.Argument(help="Finished experiments as listed by `evergreen status`, or EXPERIMENT/RECIPE.")
    ],
    joint: Joint = None,
    output: Annotated[
        Path | None, typer.Option(help="File of the page. [default: in the reports of the home, under all names]")
    ] = None,
    baseline: Baselines = None,
    json_output: Json = False,
) -> None:
    """Put recipes side by side in one page, sorted by geometric mean at equal MAFs, the first tested against the rest.

    Example: evergreen compare demo-seed0 demo-seed1/merged
    """
    from flows.tables import show_rows
    from models.evaluation import page_compare
    from models.evaluation.compare import against, common_mafs, contenders, standings
    from models.evaluation.page_parts import number
    from models.evaluation.report import published

    found = contenders(experiments)
    rows = standings(found)
    beside = published(found[0].record, baselines_named(baseline))
    path = page_compare.write(found, output, joint_named(found[0].record, joint), beside)
    if json_output:
        tested = [
            {"against": verdict.label, "reason": verdict.reason or None}
            | {row.name: row.model_dump(exclude={"name"}) for row in (verdict.found.summaries if verdict.found else ())}
            for verdict in against(found, rows[0].label)
        ]
        print_json({"report": str(path), "common_mafs": common_mafs(found),
                    "standings": [row.model_dump() for row in rows], "first_against": tested})  # fmt: skip
        return
    shown = [
        {
            "recipe": row.label,
            "MAFs": row.mafs,
            "step": row.step,
            **(row.equal or row.final).model_dump(exclude={"step"}),
        }
        for row in rows
    ]
    budget = common_mafs(found)
    show_rows("at the end" if budget is None else f"at {number(budget)} MAFs, which all have used", shown)
    tell_left_out(beside)
    typer.echo(f"report: {path}")
