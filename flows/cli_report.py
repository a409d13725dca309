"""`evergreen report`: the page of a finished experiment again, its figures as files, its results as tables."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli_common import Json, print_json, summaries

app = typer.Typer()

Joint = Annotated[
    str | None,
    typer.Option(help="An experiment trained on everything at once: drawn as the bound to reach. [default: a recipe "
                 "called joint, if there is one]"),
]  # fmt: skip
Baselines = Annotated[
    list[str] | None,
    typer.Option("--baseline", help="Published scores beside the recipes: a file, or `zero-shot`. Repeatable."),
]


@app.command()
def report(
    experiment: Annotated[
        str | None, typer.Argument(help="As listed by `evergreen status`; the only one by default.")
    ] = None,
    joint: Joint = None,
    export: Annotated[Path | None, typer.Option(help="Write every figure into this folder, as PNG and SVG.")] = None,
    results: Annotated[Path | None, typer.Option(help="Write all numbers into this folder: Parquet, JSON.")] = None,
    baseline: Baselines = None,
    json_output: Json = False,
) -> None:
    """Write the HTML report of a finished experiment again, from the store, and what else is asked for.

    Example: evergreen report demo-seed0 --export figures --results numbers
    """
    from flows.status import only_experiment
    from flows.tables import show_scores
    from models.evaluation import page
    from models.evaluation.record import find_record
    from models.evaluation.report import published

    record = find_record(experiment or only_experiment())
    bound = joint_named(record, joint)
    baselines = baselines_named(baseline)
    beside = published(record, baselines)
    written = {"report": str(page.write(record, bound, beside))}
    if export is not None:
        written["figures"] = [str(path) for path in _export(record, export, bound, beside)]
    if results is not None:
        written["results"] = [str(path) for path in _results(record, results, baselines)]
    if json_output:
        print_json(written | summaries(record))
        return
    show_scores(record)
    tell_left_out(beside)
    for what, path in written.items():
        typer.echo(f"{what}: {path if isinstance(path, str) else f'{len(path)} files in {Path(path[0]).parent}'}")


def joint_named(record: Any, name: str | None) -> Any:
    """The bound that an experiment of this name is, else the one that `record` has itself, if any."""
    from models.evaluation.record import find_record
    from models.evaluation.report import joint_of

    return joint_of(record, find_record(name) if name else None)


def baselines_named(names: list[str] | None) -> list:
    """The tables of published scores that go by these names or lie in these files."""
    from models.evaluation.published import read_baseline, zero_shot_table

    return [zero_shot_table() if name == "zero-shot" else read_baseline(name) for name in names or []]


def tell_left_out(beside: list) -> None:
    """Say which baselines lack sets."""
    from models.evaluation.page_scores import missing_sets

    for row in beside:
        if row.missing:
            typer.echo(missing_sets(row), err=True)


def _export(record: Any, folder: Path, joint: Any, beside: list) -> list[Path]:
    from models.evaluation.export import export

    return export(record, folder, joint, beside)


def _results(record: Any, folder: Path, baselines: list) -> list[Path]:
    from models.evaluation.results import results_of, write_results

    return write_results(results_of(record, baselines), folder)
