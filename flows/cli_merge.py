"""The command that merges checkpoints in files: says what it is going to do, does it, and says what came of it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli_common import Json, print_json, progress_bar

app = typer.Typer()


@app.command()
def merge(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="YAML: technique, base, experts, output, seed, newest, statistics. Options replace it."),
    ] = None,
    technique: Annotated[str | None, typer.Option(help="ties, dare-linear, interpolation, ...")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the technique, e.g. density=0.8, lines.alpha=0.5.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="What the experts came from: a file, folder or digest.")] = None,
    expert: Annotated[list[str] | None, typer.Option(help="To be merged, once per expert, oldest first.")] = None,
    output: Annotated[str | None, typer.Option(help="A *.safetensors file, or a folder like that of the base.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of techniques that draw; 0 by default.")] = None,
    newest: Annotated[
        int | None, typer.Option(help="The expert that integers and types are from; the last (-1) by default.")
    ] = None,
    statistics: Annotated[
        list[str] | None, typer.Option(help="For fisher and regmean, once per expert, in their order.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that is there.")] = False,
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Norms and cosines of task vectors; reads all once more.")
    ] = True,
    device: Annotated[
        str, typer.Option(help="What computes: cpu, or cuda for what is slow on it, such as ties.")
    ] = "cpu",
    json_output: Json = False,
) -> None:
    """Merge checkpoints into one, a part of each in memory at a time.

    Memory does not depend on their size; where thresholds are looked for, each adds a few MB.

    Example: evergreen merge --technique ties --set density=0.2 --base b.safetensors --expert e0.safetensors
    --expert e1.safetensors --output merged.safetensors
    """
    from flows.merge_settings import complete, read_recipe, settings_of, technique_of

    found = read_recipe(recipe) if recipe else {}
    given = {"base": base, "experts": expert, "output": output, "seed": seed, "newest": newest,
             "statistics": statistics}  # fmt: skip
    found |= {key: value for key, value in given.items() if value not in (None, [])}
    if technique:
        found["technique"] = {"kind": technique}  # without the recipe's settings, which are of another one
    whole = complete(found)
    chosen = technique_of(whole.technique, settings_of(settings or []))
    _merge(whole, chosen, device, dry_run, force, measured, json_output)


def _merge(
    recipe: Any, technique: Any, device: str, dry_run: bool, force: bool, measured: bool, json_output: bool
) -> None:
    from models.merging.carried_out import Job, carry_out, check_output
    from models.merging.opened import open_weights
    from models.merging.plan import plan

    base = open_weights(recipe.base)
    experts = [open_weights(name, base) for name in recipe.experts]
    known = [open_weights(name) for name in recipe.statistics]
    _check_statistics(technique, len(experts), len(known))
    planned = plan(technique, base, experts, recipe.newest, device)
    job = Job(technique, base, experts, known, Path(recipe.output), recipe.seed, recipe.newest, device)
    check_output(job, force, planned.output_megabytes + planned.scratch_megabytes)
    if not json_output:
        _show_plan(job, planned)
    if dry_run:
        if json_output:
            print_json({"technique": technique.model_dump(mode="json"), "plan": planned.model_dump(mode="json")})
        return
    with progress_bar("opening") as progress:
        manifest = carry_out(job, planned, measured and bool(planned.halves), progress)
    if json_output:
        print_json(manifest | {"plan": planned.model_dump(mode="json")})
    else:
        _show_result(manifest)


def _check_statistics(technique: Any, experts: int, found: int) -> None:
    wanted = experts if technique.USES_STATISTICS else 0
    if found != wanted:
        kind = f"{technique.USES_STATISTICS} statistics, one per expert" if wanted else "no statistics"
        raise ValueError(f"`{technique.kind}` takes {kind}: expected {wanted} of --statistics, found {found}")


def _show_plan(job: Any, planned: Any) -> None:
    from flows.tables import show_rows

    settings = job.technique.model_dump(mode="json", exclude={"kind"})
    listed = [f"{key}={value}" for key, value in settings.items()]
    typer.echo(f"technique: {job.technique.kind} ({', '.join(listed)})")
    shown = ({"megabytes": f"{each.megabytes:,.1f}", "parameters": f"{each.parameters:,}"} for each in planned.inputs)
    rows = [each.model_dump() | texts for each, texts in zip(planned.inputs, shown, strict=True)]
    if not any(row["note"] for row in rows):
        rows = [{key: value for key, value in row.items() if key != "note"} for row in rows]
    show_rows("inputs", rows)
    halves = ", ".join(f"{name} half {size:,}" for name, size in planned.halves.items())
    typer.echo(f"parameters: {halves or 'none'}")
    typer.echo(f"reads: {planned.read_megabytes:,.1f} MB in {planned.passes} pass{'es' * (planned.passes > 1)}")
    typer.echo(f"memory: about {planned.expected_peak_megabytes:,.0f} MB")
    typer.echo(f"output: {job.output}, {planned.output_megabytes:,.1f} MB")
    for warning in planned.warnings:
        typer.echo(f"note: {warning}")


def _show_result(manifest: dict[str, Any]) -> None:
    from flows.tables import show_rows

    if (found := manifest["geometry"]) is not None:
        names = [expert["name"] for expert in manifest["experts"]]
        rows = [
            {"task vector": name, "norm": f"{norm:.4g}", "cosine with merged": _as_text(cosine)}
            for name, norm, cosine in zip(names, found["expert_norms"], found["merged_cosines"], strict=True)
        ]
        show_rows("how far weights went", [*rows, {"task vector": "merged", "norm": f"{found['merged_norm']:.4g}",
                                                   "cosine with merged": ""}])  # fmt: skip
        pairs = [row[i] for i, row in enumerate(found["expert_cosines"][1:]) if row[i] is not None]
        if pairs:
            typer.echo(f"cosines of consecutive experts: {', '.join(f'{cosine:.4f}' for cosine in pairs)}")
    typer.echo(f"{manifest['output']}: {manifest['digest']}, {manifest['seconds']} s")


def _as_text(cosine: float | None) -> str:
    return "-" if cosine is None else f"{cosine:.4f}"
