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


@app.command()
def report(
    experiment: Annotated[
        str | None, typer.Argument(help="As listed by `evergreen status`; the only one by default.")
    ] = None,
    joint: Joint = None,
    export: Annotated[Path | None, typer.Option(help="Write every figure into this folder, as PNG and SVG.")] = None,
    results: Annotated[Path | None, typer.Option(help="Write all numbers into this folder: Parquet, JSON.")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="Published scores beside the results: a file, or `zero-shot`. Repeatable.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Write the HTML report of a finished experiment again, from the store, and what else is asked for.

    Example: evergreen report demo-seed0 --export figures --results numbers
    """
    from flows.status import only_experiment
    from flows.tables import show_scores
    from models.evaluation import page
    from models.evaluation.record import find_record

    if baseline and results is None:
        raise ValueError("--baseline is for the tables that --results writes; name a folder for them too")
    record = find_record(experiment or only_experiment())
    bound = joint_named(record, joint)
    written = {"report": str(page.write(record, bound))}
    if export is not None:
        written["figures"] = [str(path) for path in _export(record, export, bound)]
    if results is not None:
        written["results"] = [str(path) for path in _results(record, results, baseline or [])]
    if json_output:
        print_json(written | summaries(record))
        return
    show_scores(record)
    for what, path in written.items():
        typer.echo(f"{what}: {path if isinstance(path, str) else f'{len(path)} files in {Path(path[0]).parent}'}")


def joint_named(record: Any, name: str | None) -> Any:
    """The bound that an experiment of this name is, else the one that `record` has itself, if any."""
    from models.evaluation.record import find_record
    from models.evaluation.report import joint_of

    return joint_of(record, find_record(name) if name else None)


def _export(record: Any, folder: Path, joint: Any) -> list[Path]:
    from models.evaluation.export import export

    return export(record, folder, joint)


def _results(record: Any, folder: Path, baselines: list[str]) -> list[Path]:
    from models.evaluation.published import read_baseline, zero_shot_table
    from models.evaluation.results import results_of, write_results

    read = [zero_shot_table() if name == "zero-shot" else read_baseline(name) for name in baselines]
    return write_results(results_of(record, read), folder)
