"""Commands on adapters: out to peft, and in from it."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()
adapter_app = typer.Typer(help="Adapters in peft's format: export, fold into weights.", no_args_is_help=True)
app.add_typer(adapter_app, name="adapter")

Experiment = Annotated[
    str | None, typer.Option(help="Where <recipe>/<step> is from; the only finished experiment by default.")
]


@adapter_app.command("export")
def export_adapter(
    step: Annotated[
        str, typer.Argument(help="<recipe>/<step>, or the digest (sha256:...) of an expert or of what its step kept.")
    ],
    folder: Annotated[
        Path, typer.Argument(help="To be filled with adapter_config.json and adapter_model.safetensors.")
    ],
    experiment: Experiment = None,
    json_output: Json = False,
) -> None:
    """Write the adapter that a step trained as a folder that peft loads.

    Example: evergreen adapter export lora/4 adapters/lora-4
    """
    from models.adapters.stored import stored_adapter
    from models.adapters.travel import write

    adapter = stored_adapter(_digest(step, experiment, "expert"))
    write(adapter, folder)
    about = {"folder": str(folder), "kind": adapter.kind, "rank": adapter.rank, "places": len(adapter.places)}
    if json_output:
        print_json(about)
    else:
        typer.echo(f"{folder}: {adapter.kind} of rank {adapter.rank} at {len(adapter.places)} places")


@adapter_app.command("fold")
def fold_adapter(
    folder: Annotated[Path, typer.Argument(help="With adapter_config.json and adapter_model.safetensors.")],
    onto: Annotated[str, typer.Option(help="The checkpoint (sha256:..., or <recipe>/<step>: its deployed weights).")],
    experiment: Experiment = None,
    json_output: Json = False,
) -> None:
    """Fold an adapter into a checkpoint and store the result as another.

    Example: evergreen adapter fold adapters/lora-4 --onto finetune/4
    """
    from models.adapters.stored import fold_onto, stored_checkpoint

    folded = fold_onto(folder, stored_checkpoint(_digest(onto, experiment, "deployed")))
    if json_output:
        print_json(folded.model_dump())
    else:
        typer.echo(folded.digest)


def _digest(name: str, experiment: str | None, which: str) -> str:
    """`name` if it is a digest, else that of the `which` weights of a step of a finished experiment."""
    from data_catalog.refs import is_digest
    from flows.status import only_experiment
    from models.evaluation.record import find_record

    if is_digest(name):
        return name
    chosen = experiment or only_experiment()
    found = {f"{r.name}/{s.step}": getattr(s, which) for r in find_record(chosen).recipes for s in r.trained}
    if name not in found:
        raise ValueError(f"no step {name!r} in {chosen}: give sha256:<64 hex digits>, or one of {', '.join(found)}")
    return found[name]
