"""The command that takes the statistics which merges by `fisher` and `regmean` need, of an expert of a run."""

import re
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.cli_common import Json, print_json

app = typer.Typer()


@app.command()
def statistics(
    checkpoint: Annotated[str, typer.Argument(help="<recipe>/<step>: the expert straight after that update.")],
    kind: Annotated[Literal["fisher", "gram"], typer.Option(help="fisher, or gram for regmean.")],
    output: Annotated[Path, typer.Option(help="The *.safetensors file to write.")],
    experiment: Annotated[
        str | None, typer.Option(help="Where the step is from; the only finished experiment by default.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Draws of the step to look at.")] = 2048,
    json_output: Json = False,
) -> None:
    """Take statistics of an expert on the data of its step, for `evergreen merge --statistics`.

    Example: evergreen statistics merged/4 --kind fisher --output fisher4.safetensors
    """
    from data_catalog.store import locate
    from data_catalog.store_files import replacing
    from flows.status import only_experiment
    from models.evaluation.record import find_record
    from models.merging.statistics import collect

    if not output.parent.is_dir():
        raise ValueError(f"there is no folder {output.parent}; make it, or give another --output")
    expert, data, spec, seed = _step(find_record(experiment or only_experiment()), checkpoint)
    found = collect(kind, expert, data, spec, samples, seed)
    with replacing(output) as temporary:
        shutil.copyfile(locate(found.digest), temporary)
    if json_output:
        print_json({**found.model_dump(mode="json"), "output": str(output)})
    else:
        typer.echo(f"{kind} of {expert.digest[:19]} on step {data.step}: {output}")


def _step(record, checkpoint: str) -> tuple:
    """(expert, data, update, seed) of a recorded step; raises ValueError if there is none of that name."""
    import yaml

    from data_catalog.store import origins
    from data_catalog.stream import StepPlan
    from flows.experiment import ExperimentConfig
    from models.checkpoints import CheckpointRef

    known = {f"{recipe.name}/{step.step}": step for recipe in record.recipes for step in recipe.trained}
    if not re.fullmatch(r"[^/]+/\d+", checkpoint) or checkpoint not in known:
        raise ValueError(f"no step {checkpoint!r} in {record.name}: give one of {', '.join(known)}")
    step, config = known[checkpoint], ExperimentConfig.model_validate(yaml.safe_load(record.config))
    backbone = next(origin["backbone"] for origin in origins(step.expert) if "backbone" in origin)
    data = StepPlan(digest=step.step_plan, step=step.step, batch_size=config.batch_size, iterations=step.iterations,
                    samples=step.draws)  # fmt: skip
    update = config.recipes[checkpoint.partition("/")[0]].update
    return CheckpointRef(digest=step.expert, backbone=backbone), data, update, config.seed
