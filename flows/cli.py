"""The command `evergreen`. Heavy imports stay inside the commands, so that `--help` answers at once."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows import (
    cli_adapters,
    cli_budget,
    cli_captions,
    cli_compare,
    cli_data,
    cli_deploy,
    cli_diff,
    cli_doctor,
    cli_duplicates,
    cli_export,
    cli_gc,
    cli_lineage,
    cli_living,
    cli_merge,
    cli_merge_search,
    cli_report,
    cli_schedule,
    cli_statistics,
    cli_status,
    cli_store,
    cli_streams,
    cli_watch,
    environment,
)
from flows.cli_common import BAD_INPUT, INTERRUPTED, Config, Json, Seed, counts, print_json, summaries

CONFIGS = Path(__file__).parent / "configs"

app = typer.Typer(
    help="Keep a vision-language model up to date, for years, without breaking what it already knows.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for commands in (cli_adapters, cli_budget, cli_data, cli_captions, cli_diff, cli_streams, cli_duplicates, cli_lineage,
                 cli_deploy, cli_doctor,
                 cli_schedule, cli_merge, cli_merge_search, cli_statistics, cli_report, cli_compare, cli_gc,
                 cli_watch, cli_export, cli_living, cli_status, cli_store):  # fmt: skip
    app.add_typer(commands.app)


@app.command()
def demo(json_output: Json = False, seed: Seed = None) -> None:
    """Live a whole continual-pretraining life on this machine: no network, no GPU, a few minutes.

    Example: evergreen demo --seed 1
    """
    _run(CONFIGS / "demo.yaml", seed, json_output)


@app.command()
def run(config: Config, json_output: Json = False, seed: Seed = None) -> None:
    """Run one experiment here; run it again to go on after an interruption. The same flow as a deployment's.

    Example: evergreen run flows/configs/demo.yaml
    """
    _run(config, seed, json_output)


@app.command()
def evaluate(
    config: Config,
    checkpoint: Annotated[
        str, typer.Option(help="`pretrained`, a digest (sha256:...), or <recipe>/<step>.")
    ] = "pretrained",
    whole: Annotated[
        bool, typer.Option("--whole", help="On whole sets, where the experiment scores steps on fixed subsets.")
    ] = False,
    profile: Annotated[
        Literal["paper"] | None, typer.Option(help="paper: also what FoMo-in-Flux's own evaluation would have said.")
    ] = None,
    json_output: Json = False,
    seed: Seed = None,
) -> None:
    """Score a checkpoint on the evaluation sets of an experiment.

    Example: evergreen evaluate flows/configs/demo.yaml --checkpoint merged/4 --json
    """
    environment.open_home()
    from flows.console import watching
    from flows.experiment import load
    from flows.server import api
    from flows.tables import show_rows
    from models.evaluation.scores import evaluation_rows

    experiment = load(config, seed)
    with api(), watching(quiet=json_output):
        from flows.evaluate import evaluate as flow

        evaluation = flow(experiment, checkpoint, whole, profile)
    scores = [score.model_dump() for score in evaluation.report.scores]  # clean ones are rows of their own here
    summary = evaluation.summary.model_dump(exclude={"step"})
    legacy = [score.model_dump() for score in evaluation.legacy]
    if json_output:
        groups = {"groups": evaluation.groups} if evaluation.groups else {}
        print_json({"checkpoint": evaluation.report.checkpoint, "scores": scores, **summary, **groups}
                   | ({"legacy": legacy} if profile else {}))  # fmt: skip
        return
    show_rows(f"scores of {evaluation.report.checkpoint[:19]}", evaluation_rows(evaluation.report))
    if legacy:
        show_rows("with the defects of the benchmark's own evaluation", legacy)
    means = [(name.replace("_", " "), value) for name, value in summary.items()]  # a group may be called like one
    typer.echo(", ".join(f"{name} {value:.3f}" for name, value in (*means, *evaluation.groups.items())))


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the Prefect pages.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Serve the pages of Prefect and MLflow on this machine until Ctrl-C.

    Example: evergreen ui --port 4201
    """
    from flows.server import serve_ui

    serve_ui(port, mlflow_port, typer.echo)


def main() -> None:
    """Run the command; exit code 0 on success, 2 on bad input with the reason on stderr, 130 on Ctrl-C, else 1."""
    from data_catalog.outage import Outage
    from data_catalog.store import MissingArtifact

    environment.configure()
    try:
        app()
    except (ValueError, MissingArtifact) as error:  # pydantic's ValidationError is a ValueError
        print(f"evergreen: {_readable(error)}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except Outage as error:
        print(f"evergreen: {error}", file=sys.stderr)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("evergreen: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        raise


def _run(config: Path, seed: int | None, json_output: bool) -> None:
    started = time.monotonic()
    environment.open_home()
    from flows.console import watching
    from flows.experiment import load
    from flows.server import api
    from flows.tables import show_scores
    from models.evaluation.record import load_record

    experiment = load(config, seed)
    with api(meanwhile=_import_flow), watching(quiet=json_output) as stages:
        from flows.continual import continual_pretrain

        finished = continual_pretrain(experiment)
    record = load_record(finished.digest)
    if json_output:
        print_json(summaries(record) | {"stages": counts(stages), "seconds": round(time.monotonic() - started, 1)})
        return
    show_scores(record)
    _say_what_next(config, record, f"{stages.summary()}, {time.monotonic() - started:.0f} s")


def _import_flow() -> None:
    import flows.continual  # noqa: F401


def _say_what_next(config: Path, record: Any, done: str) -> None:
    from data_catalog.places import home
    from models.evaluation.record import run_name

    name = run_name(record.name, record.seed)
    typer.echo(f"\n{done}\nreport: {home() / 'reports' / name}.html\n\nnext:")
    for command, meaning in (
        ("evergreen ui", "every run, stage and curve in the browser"),
        (f"evergreen status; evergreen report {name}", "what this home holds; the report once more"),
        (
            f"evergreen evaluate {config} --checkpoint {record.recipes[-1].name}/{len(record.stream) - 1}",
            "score any checkpoint",
        ),
        (
            f"echo 'extends: {config}' > mine.yaml; evergreen run mine.yaml",
            "add what you change to it: only what depends on that runs",
        ),
    ):
        typer.echo(f"  {command:<66} {meaning}")


def _readable(error: Exception) -> str:
    from pydantic import ValidationError

    from flows.experiment import problems

    return f"not valid:\n{problems(error)}" if isinstance(error, ValidationError) else str(error)
